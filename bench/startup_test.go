package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportCostsNothing: importing the library starts no goroutine, and its packages allocate
// little.
func TestImportCostsNothing(t *testing.T) {
	program := filepath.Join(t.TempDir(), "startup")
	if out, err := exec.Command("go", "build", "-o", program, "./startup").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program)
	cmd.Env = append(cmd.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "goroutines 1\n") {
		t.Errorf("not one goroutine:\n%s", out)
	}
	packages, allocs, bytes := 0, 0, 0
	for line := range strings.Lines(string(out)) {
		var name string
		var at, clock float64
		var b, a int
		if n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &name, &at, &clock, &b, &a); n == 5 && strings.HasPrefix(name, "github.com/gotheus/") {
			packages, bytes, allocs = packages+1, bytes+b, allocs+a
		}
	}
	if packages == 0 || allocs > 50 || bytes > 10_000 {
		t.Errorf("%d packages allocate %d bytes in %d pieces, want at most 10000 in 50:\n%s", packages, bytes, allocs, out)
	}
}
