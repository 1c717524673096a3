package tests_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// Functions that the probe calls cannot make the measured call fail. What else there is to measure
// is measured.
func TestProbeFieldsPanic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(p *probed)
		calls uint64 // observed
	}{
		"Seconds": {func(p *probed) { p.Seconds = func(float64) { panic("oops") } }, 0},
		"Match":   {func(p *probed) { p.Match = func(error) bool { panic("oops") } }, 1},
		"Now":     {func(p *probed) { p.Now = func() time.Time { panic("oops") } }, 0},
		"Now later": {func(p *probed) {
			calls := 0
			p.Now = func() time.Time {
				if calls++; calls == 2 {
					panic("oops")
				}
				return time.Time{}
			}
		}, 0},
	} {
		p := newProbed(t)
		c.spoil(p)
		if got := apart(func() {
			if err := p.Do(func() error { return errTest }); err != errTest {
				t.Errorf("%s: the call returns %v", name, err)
			}
		}); got != nil {
			t.Errorf("%s: panic %v", name, got)
		}
		p.check(t, name, c.calls, 0, 1, 0)
		if got := apart(func() { p.Do(func() error { panic("mine") }) }); got != "mine" {
			t.Errorf("%s: the call's panic has become %v", name, got)
		}
	}
}

func TestMatchErrors(t *testing.T) {
	t.Parallel()
	targets := []error{io.EOF, fs.ErrNotExist}
	match := gotheus.MatchErrors(targets...)
	targets[0] = errTest // too late
	_, missing := os.Open("/nonexistent")
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"same":       {io.EOF, true},
		"wrapped":    {fmt.Errorf("reading: %w", io.EOF), true},
		"joined":     {errors.Join(errTest, io.EOF), true},
		"by method":  {missing, true},
		"other":      {errTest, false},
		"other text": {errors.New("EOF"), false},
		"nil":        {nil, false},
	} {
		if got := match(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if none := gotheus.MatchErrors(); none(io.EOF) {
		t.Error("no targets match something")
	}

	p := newProbed(t)
	p.Match = match
	for _, err := range []error{nil, io.EOF, errTest, missing} {
		if got := p.Do(func() error { return err }); got != err {
			t.Errorf("got %v, want %v", got, err)
		}
	}
	apart(func() { p.Do(func() error { panic(io.EOF) }) })
	p.check(t, "match", 5, 0, 2, 1)
	// Without Panics, a panic counts as an error whether or not it matches.
	p.Panics = nil
	p.Match = gotheus.MatchErrors()
	apart(func() { p.Do(func() error { panic(io.EOF) }) })
	p.check(t, "match without panics", 6, 0, 3, 0)
}

func init() {
	workers["probe"] = func() {
		p := gotheus.Probe{Errors: gotheus.NewCounter("errors_total", "E.", nil), InFlight: gotheus.NewGauge("in_flight", "I.", nil)}
		p.Do(crashHere)
	}
}

//go:noinline
func crashHere() error { panic("crashed here") }

// A crash report is the same as without a probe: the trace begins at the panic, which was not
// recovered on the way.
func TestProbeCrashReport(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=probe")
	out, err := cmd.CombinedOutput()
	report := string(out)
	if err == nil || !strings.Contains(report, "panic: crashed here\n\ngoroutine ") || strings.Contains(report, "recovered") {
		t.Errorf("%v: %s", err, report)
	}
	if at, caller := strings.Index(report, "crashHere("), strings.Index(report, "(*Probe).Do("); at < 0 || caller < at {
		t.Errorf("the stack is not that of the panic: %s", report)
	}
}
