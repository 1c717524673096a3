//go:build linux && (386 || amd64 || arm64)

package schedules_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/schedules"
)

var (
	switches = flag.Int("switches", 1, "how often another goroutine takes over at most, where that is not forced")
	stride   = flag.Int("stride", 0, "of the schedules with each number of switches, run every n-th; 1: all; 0: few enough for a short test")
	points   = flag.Bool("points", false, "show all points of a schedule that fails")
	only     = flag.String("only", "", "a regular expression of the scenarios to explore")
)

// instrumented is the environment variable that tells an instrumented test program what it is.
const instrumented = "GOTHEUS_SCHEDULES"

// TestSchedules explores all scenarios with an instrumented version of this program.
func TestSchedules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	overlay, places, err := schedules.Points.Overlay(dir, schedules.Packages...)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "instrumented")
	build := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d places have points", len(places))
	// A program has one run at a time. There are many more parts than processors, since some
	// take longer.
	const parts = 29
	for part := range parts {
		t.Run(strconv.Itoa(part), func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // Pdeathsig is about this thread
			cmd := exec.Command(program, "-test.run=^TestScenarios$", "-test.v", "-test.timeout=0", "-only", *only,
				"-points="+strconv.FormatBool(*points), "-switches", strconv.Itoa(*switches), "-stride", strconv.Itoa(*stride))
			cmd.Env = append(os.Environ(), instrumented+"="+strconv.Itoa(part)+"/"+strconv.Itoa(parts))
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			} else {
				t.Logf("%s", bytes.TrimSpace(out))
			}
		})
	}
}
