package tests_test

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// With the system clock, quantiles stay right long after MaxAge has passed, even in processes that
// are never scraped. Old observations of a stopped process do not reappear when it continues, nor
// do those of a killed one.
func TestWindowInRealTime(t *testing.T) {
	t.Parallel()
	for where, url := range backends {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			u := url(t)
			a := startWorker(t, u)
			b := a
			if u != "heap:" {
				b = startWorker(t, u)
			}
			for _, w := range []*worker{a, b} {
				w.do(command{Do: "window", Name: "s", V: .4})
			}
			// quantiles waits until b's page has these quantiles.
			quantiles := func(what string, ok func(float64) bool) {
				t.Helper()
				backendtest.Eventually(t, what, func() bool { return ok(quantilesOf(t, b, "s", `l="a"`)[2]) })
			}
			observe := func(v float64) { a.do(command{Do: "observe", Name: "s", Values: values("a"), V: v}) }
			isNaN := func(v float64) bool { return v != v }
			for i := range 100 {
				observe(float64(1000 + i))
			}
			quantiles("the first observations", func(v float64) bool { return v > 1000 })
			quantiles("they are forgotten", isNaN)
			quantiles("later ones", func(v float64) bool { observe(2000); return v > 1900 })
			if a.cmd == nil || a == b {
				quantiles("they are forgotten", isNaN)
				return
			}
			// Stopped for longer than the whole window.
			a.cmd.Process.Signal(syscall.SIGSTOP)
			quantiles("what a stopped process has observed is forgotten", isNaN)
			a.cmd.Process.Signal(syscall.SIGCONT)
			observe(7)
			quantiles("one that goes on", func(v float64) bool {
				if v > 8 {
					t.Fatalf("%v was observed before the process was stopped", v)
				}
				observe(7)
				return v > 6
			})
			a.kill()
			quantiles("what a killed process has observed is forgotten", isNaN)
		})
	}
}
