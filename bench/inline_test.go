package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestIncIsInlined checks with the compiler that a call of Inc costs no more than its atomic add.
func TestIncIsInlined(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "build", "-gcflags=-m=2", "github.com/gotheus/gotheus").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "can inline (*Counter).Inc ") {
		return
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "(*Counter).Inc") {
			t.Log(line)
		}
	}
	t.Error("Counter.Inc is not inlined")
}
