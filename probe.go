package gotheus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Probe measures calls: how long they take, how many are going on, how many fail. It is right also
// for calls that panic or end their goroutine by runtime.Goexit: these go on as if there were no
// Probe, with their stack, and count as panics. Nil fields measure nothing, and a nil Probe only
// calls.
//
// Do, Run and Call panic with an error that wraps ErrInvalid if the function is nil.
//
// A Probe may be used concurrently, and copied; its fields must not be changed once it is in use. A
// call takes no lock and allocates nothing. A Probe is best kept, as instruments are: making one
// for each call costs the allocation of a method value such as latency.Observe.
type Probe struct {
	Seconds  func(float64) // takes each call's duration: Observe, Set or Add
	InFlight *Gauge        // calls that are going on
	Errors   *Counter      // calls with an error that matches; also panics if Panics is nil
	Panics   *Counter      // calls that did not return

	// Match says which errors count, such as MatchErrors(sql.ErrConnDone); nil: all. It is
	// called with no other than errors that were returned, never with nil.
	Match func(error) bool
	// Now is the clock; nil: time.Now. A registry's is its Now method.
	Now func() time.Time
}

// Do calls f, measures the call, and returns what f returns.
func (p *Probe) Do(f func() error) (err error) {
	checkCall("Do", f == nil)
	returned := false
	defer p.end(p.begin(), &returned, &err)
	err = f()
	returned = true
	return err
}

// Run calls f, which has no result, and measures the call. A function with any other results than
// those of Do and Call can be called within f.
func (p *Probe) Run(f func()) {
	checkCall("Run", f == nil)
	returned := false
	defer p.end(p.begin(), &returned, nil)
	f()
	returned = true
}

// Call calls f with ctx, measures the call with p, and returns what f returns.
func Call[T any](ctx context.Context, p *Probe, f func(context.Context) (T, error)) (result T, err error) {
	checkCall("Call", f == nil)
	returned := false
	defer p.end(p.begin(), &returned, &err)
	result, err = f(ctx)
	returned = true
	return result, err
}

// checkCall panics if there is nothing to call: that is no panic of what is measured.
func checkCall(op string, isNil bool) {
	if isNil {
		panic(fmt.Errorf("%w: %s of a Probe: the function is nil", ErrInvalid, op))
	}
}

// begin returns when the call starts. The gauge comes last: what is counted there will be taken
// back.
func (p *Probe) begin() (start time.Time) {
	if p == nil {
		return start
	}
	switch {
	case p.Seconds == nil:
	case p.Now == nil:
		start = time.Now()
	default:
		start = p.Now()
	}
	if p.InFlight != nil {
		p.InFlight.Inc()
	}
	return start
}

// end is deferred. Whether the call returned is known from a flag that is set after it: to recover
// and panic again would change what debuggers, crash reports and runtime.Goexit see. The gauge
// comes first: the functions may be anybody's, and may panic.
func (p *Probe) end(start time.Time, returned *bool, err *error) {
	if p == nil {
		return
	}
	if p.InFlight != nil {
		p.InFlight.Dec()
	}
	switch {
	case p.Seconds == nil:
	case p.Now == nil:
		p.Seconds(time.Since(start).Seconds())
	default:
		p.Seconds(p.Now().Sub(start).Seconds())
	}
	switch {
	case !*returned && p.Panics != nil:
		p.Panics.Inc()
	case p.Errors == nil:
	case !*returned, err != nil && *err != nil && (p.Match == nil || p.Match(*err)):
		p.Errors.Inc()
	}
}

// MatchErrors returns a function that reports whether an error is one of targets, or wraps one, by
// errors.Is. It is meant for Probe.Match. For errors of a type, use errors.As:
//
//	Match: func(err error) bool { var e *net.OpError; return errors.As(err, &e) }
//
// and for all errors but some:
//
//	Match: func(err error) bool { return !errors.Is(err, context.Canceled) }
func MatchErrors(targets ...error) func(error) bool {
	targets = slices.Clone(targets)
	return func(err error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
}
