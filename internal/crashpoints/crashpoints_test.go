//go:build linux && (386 || amd64 || arm64)

package crashpoints_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/crashpoints"
	"github.com/gotheus/gotheus/internal/crashpoints/point"
)

// An instrumented program does the same as before, with a point before and after each call that
// changes something, wherever the language allows one.
func TestInstrumented(t *testing.T) {
	t.Parallel()
	const shapes = "github.com/gotheus/gotheus/internal/crashpoints/testdata/shapes"
	dir := t.TempDir()
	overlay, places, err := crashpoints.Crashes.Overlay(dir, shapes)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "shapes")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, shapes).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	if want := `load 0 0
store 3 2
swap 4 4
loop 14 6
deferred 77 4
pointer 0 2
function 2 2
several true 2
nested true 2
assigned 3 <nil> <nil> 12
plain 137 14
go 1 2
`; err != nil || string(out) != want {
		t.Errorf("%v:\n%swant:\n%s", err, out, want)
	}
	if len(places) < 20 || places[0].String() != "shapes.go:21 os.OpenFile" {
		t.Errorf("places: %v", places)
	}

	// It dies where it should: before the first store, and after it.
	for at, want := range map[string]string{"kill 1": "load 0 0\nshapes.go:65 atomic.Store\n", "kill 3": "load 0 0\nstore 3 2\nshapes.go:66 atomic.Swap\n"} {
		cmd := exec.Command(program)
		cmd.Env = append(cmd.Environ(), point.Variable+"="+at)
		out, err := cmd.CombinedOutput()
		if err == nil || err.Error() != "signal: killed" || !strings.HasPrefix(string(out), "load") || string(out) != want {
			t.Errorf("%s: %v, %s", at, err, out)
		}
	}
}
