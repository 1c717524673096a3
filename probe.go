package gotheus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Probe measures calls: how long they take, how many are in progress, how many fail. Calls that
// panic or end their goroutine by runtime.Goexit are measured, too, and count as panics; the panic
// continues with its stack as if there were no Probe. Nil fields measure nothing, and a nil Probe
// only calls the function.
//
// If a function in one of the fields panics, that is logged by the default registry and counted in
// its gotheus_callback_panics_total; the call goes on, without its duration if that was Seconds or
// Now, and as a matching error if it was Match.
//
// Do, Run and Call panic with an error that wraps ErrInvalid if the function is nil.
//
// A Probe may be used concurrently, and copied; its fields must not be changed once it is in use.
// Measuring a call takes no lock and allocates nothing. Keep a Probe, as you would an instrument:
// making one for each call allocates a method value such as latency.Observe.
type Probe struct {
	// Seconds gets the duration of each call, in seconds. It is Observe of a Histogram, Set of
	// a Gauge or Add of a Counter, for instance.
	Seconds  func(float64)
	InFlight *Gauge   // calls in progress
	Errors   *Counter // calls that returned a matching error; and panics, if Panics is nil
	Panics   *Counter // calls that did not return

	// Match says which errors count, such as MatchErrors(sql.ErrConnDone); nil: all. It is
	// called only with errors that were returned, never with nil.
	Match func(error) bool
	// Now is the clock, such as a registry's Now method; nil: time.Now.
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

// Run calls f and measures the call. For a function whose results fit neither Do nor Call, call it
// within f.
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

// checkCall panics if there is nothing to call. It runs before the measurement, which would count
// the panic.
func checkCall(op string, isNil bool) {
	if isNil {
		panic(fmt.Errorf("%w: %s of a Probe: the function is nil", ErrInvalid, op))
	}
}

// began is a start time. It is not known if the clock has panicked.
type began struct {
	at    time.Time
	known bool
}

// begin returns the start time.
func (p *Probe) begin() (start began) {
	if p == nil {
		return start
	}
	switch {
	case p.Seconds == nil:
	case p.Now == nil:
		start.at = time.Now()
	default:
		start.at, start.known = p.now()
	}
	if p.InFlight != nil {
		p.InFlight.Inc()
	}
	return start
}

// end is deferred. A flag set after the call says whether it returned: recovering and panicking
// again would change what debuggers, crash reports and runtime.Goexit see.
func (p *Probe) end(start began, returned *bool, err *error) {
	if p == nil {
		return
	}
	if p.InFlight != nil {
		p.InFlight.Dec()
	}
	switch {
	case p.Seconds == nil:
	case p.Now == nil:
		p.observe(time.Since(start.at))
	default:
		if now, ok := p.now(); ok && start.known {
			p.observe(now.Sub(start.at))
		}
	}
	switch {
	case !*returned && p.Panics != nil:
		p.Panics.Inc()
	case p.Errors == nil:
	case !*returned, err != nil && *err != nil && (p.Match == nil || p.matches(*err)):
		p.Errors.Inc()
	}
}

// observe, now and matches call functions of the program. The call that is measured must not fail
// for them.

func (p *Probe) observe(took time.Duration) {
	defer Default().base().home.Contain("Probe.Seconds")
	p.Seconds(took.Seconds())
}

func (p *Probe) now() (now time.Time, ok bool) {
	defer Default().base().home.Contain("Probe.Now")
	return p.Now(), true
}

// matches returns true if p.Match panics.
func (p *Probe) matches(err error) (match bool) {
	match = true
	defer Default().base().home.Contain("Probe.Match")
	return p.Match(err)
}

// MatchErrors returns a function for Probe.Match that reports whether errors.Is finds one of
// targets in an error. For errors of a type, use errors.As:
//
//	Match: func(err error) bool { var e *net.OpError; return errors.As(err, &e) }
//
// and for all errors except some:
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
