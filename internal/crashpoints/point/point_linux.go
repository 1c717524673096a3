package point

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Variable is the environment variable that says what happens to the process: "kill 12" kills it
// with SIGKILL at the 12th point that it executes, and "stop 12" stops it there with SIGSTOP. The
// process then writes the place in the sources to its standard error.
const Variable = "GOTHEUS_CRASH_POINT"

var (
	executed atomic.Int64
	end      int64 // number of the point at which something happens; 0: none
	signal   syscall.Signal
)

func init() {
	what, number, ok := strings.Cut(os.Getenv(Variable), " ")
	if !ok {
		return
	}
	end, _ = strconv.ParseInt(number, 10, 64)
	signal = map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP}[what]
	if end <= 0 || signal == 0 {
		os.Stderr.WriteString(Variable + ` must be like "kill 12" or "stop 12"` + "\n")
		os.Exit(3)
	}
}

// Executed returns how many points the process has executed.
func Executed() int64 { return executed.Load() }

var (
	mu      sync.Mutex
	reached = make(map[string]bool)
)

// Reached returns the places where the process has executed points.
func Reached() []string {
	mu.Lock()
	defer mu.Unlock()
	return slices.Sorted(maps.Keys(reached))
}

// At is a point. Its result has no meaning, and lets it be the argument of a call.
func At(place string) struct{} {
	n := executed.Add(1)
	if end == 0 {
		mu.Lock()
		reached[place] = true
		mu.Unlock()
	}
	if n == end {
		os.Stderr.WriteString(place + "\n")
		// To this thread, which must not run another instruction of the program.
		runtime.LockOSThread()
		syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), signal)
		runtime.UnlockOSThread()
	}
	return struct{}{}
}

// Around calls do between two points.
func Around(place string, do func()) {
	At(place)
	do()
	At(place)
}

// Result is a point after a call with one result. That before it is its first argument.
func Result[T any](_ struct{}, place string, v T) T {
	At(place)
	return v
}

// Before is a point before a call of f with several results.
func Before[F any](place string, f F) F {
	At(place)
	return f
}

// After2 is a point after a call with two results.
func After2[A, B any](a A, b B) (A, B) {
	At("after")
	return a, b
}

// After3 is a point after a call with three results.
func After3[A, B, C any](a A, b B, c C) (A, B, C) {
	At("after")
	return a, b, c
}

// After4 is a point after a call with four results.
func After4[A, B, C, D any](a A, b B, c C, d D) (A, B, C, D) {
	At("after")
	return a, b, c, d
}
