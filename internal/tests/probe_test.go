package tests_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// probed is a probe with all its measurements.
type probed struct {
	gotheus.Probe
	clock    *fakeClock
	latency  *gotheus.Histogram
	registry *gotheus.Registry
}

func newProbed(t testing.TB) *probed {
	clock := newFakeClock()
	r, _ := newRegistry(t, clock.options())
	p := &probed{clock: clock, registry: r, latency: r.NewHistogram("seconds", "S.", nil)}
	p.Probe = gotheus.Probe{
		Seconds:  p.latency.Observe,
		InFlight: r.NewGauge("in_flight", "I.", nil),
		Errors:   r.NewCounter("errors_total", "E.", nil),
		Panics:   r.NewCounter("panics_total", "P.", nil),
		Now:      r.Now,
	}
	return p
}

func (p *probed) check(t testing.TB, what string, calls uint64, seconds, errors, panics float64) {
	t.Helper()
	failed := 0.0
	if p.Errors != nil {
		failed = p.Errors.Value()
	}
	panicked := 0.0
	if p.Panics != nil {
		panicked = p.Panics.Value()
	}
	if p.latency.Count() != calls || p.latency.Sum() != seconds || failed != errors || panicked != panics || p.InFlight.Value() != 0 {
		t.Errorf("%s: %d calls, %v s, %v errors, %v panics, %v in flight; want %d, %v, %v, %v, 0", what,
			p.latency.Count(), p.latency.Sum(), failed, panicked, p.InFlight.Value(), calls, seconds, errors, panics)
	}
}

// apart runs f in a new goroutine and returns the value that it panicked with.
func apart(f func()) (value any) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { value = recover() }()
		f()
	}()
	<-done
	return value
}

var errTest = errors.New("for the test")

// ways are the ways to call a function with a probe. Functions called by Run return no error.
var ways = map[string]func(p *gotheus.Probe, f func() error) error{
	"Do":  func(p *gotheus.Probe, f func() error) error { return p.Do(f) },
	"Run": func(p *gotheus.Probe, f func() error) (err error) { p.Run(func() { err = f() }); return err },
	"Call": func(p *gotheus.Probe, f func() error) error {
		type key struct{}
		ctx := context.WithValue(context.Background(), key{}, "of this call")
		n, err := gotheus.Call(ctx, p, func(ctx context.Context) (string, error) {
			return fmt.Sprint(ctx.Value(key{})), f()
		})
		if n != "of this call" {
			panic(n)
		}
		return err
	},
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for way, call := range ways {
		for name, c := range map[string]struct {
			f              func() error
			err            error
			panics         any
			errors, failed float64 // counted as errors, as panics
		}{
			"returns":       {f: func() error { return nil }},
			"fails":         {f: func() error { return errTest }, err: errTest, errors: 1},
			"panics":        {f: func() error { panic("oops") }, panics: "oops", failed: 1},
			"panics error":  {f: func() error { panic(errTest) }, panics: errTest, failed: 1},
			"exits":         {f: func() error { runtime.Goexit(); return nil }, failed: 1},
			"recovers":      {f: func() error { defer func() { _ = recover() }(); panic("oops") }},
			"fails late":    {f: func() (err error) { defer func() { _ = recover(); err = errTest }(); panic("oops") }, err: errTest, errors: 1},
			"nested panics": {f: func() error { defer func() { panic("second") }(); panic("first") }, panics: "second", failed: 1},
			"panics, exits": {f: func() error { defer runtime.Goexit(); panic("first") }, failed: 1},
		} {
			p := newProbed(t)
			f := func() error {
				p.clock.advance(250 * time.Millisecond)
				if v := p.InFlight.Value(); v != 1 {
					t.Errorf("%v in flight", v)
				}
				return c.f()
			}
			if way == "Run" {
				c.errors = 0
			}
			for n := range 3 {
				var err error
				if got := apart(func() { err = call(&p.Probe, f) }); got != c.panics || err != c.err {
					t.Errorf("%s, %s: panic %v, error %v", way, name, got, err)
				}
				k := float64(n + 1)
				p.check(t, way+", "+name, uint64(n+1), k*.25, k*c.errors, k*c.failed)
			}
		}
	}
}

// Fields that are nil are not updated.
func TestProbeNil(t *testing.T) {
	t.Parallel()
	for way, call := range ways {
		for name, leave := range map[string]func(p *probed) *gotheus.Probe{
			"nil probe":  func(*probed) *gotheus.Probe { return nil },
			"zero probe": func(*probed) *gotheus.Probe { return new(gotheus.Probe) },
			"seconds":    func(p *probed) *gotheus.Probe { return &gotheus.Probe{Seconds: p.Seconds, Now: p.Now} },
			"in flight":  func(p *probed) *gotheus.Probe { return &gotheus.Probe{InFlight: p.InFlight} },
			"errors":     func(p *probed) *gotheus.Probe { return &gotheus.Probe{Errors: p.Errors} },
			"panics":     func(p *probed) *gotheus.Probe { return &gotheus.Probe{Panics: p.Panics} },
			"no panics": func(p *probed) *gotheus.Probe {
				return &gotheus.Probe{Seconds: p.Seconds, InFlight: p.InFlight, Errors: p.Errors, Now: p.Now}
			},
		} {
			p := newProbed(t)
			probe := leave(p)
			if err := call(probe, func() error { p.clock.advance(time.Second); return errTest }); err != errTest {
				t.Errorf("%s, %s: %v", way, name, err)
			}
			if got := apart(func() { call(probe, func() error { p.clock.advance(time.Second); panic("oops") }) }); got != "oops" {
				t.Errorf("%s, %s: panic %v", way, name, got)
			}
			var calls uint64
			var errs, panics float64
			if probe != nil && probe.Seconds != nil {
				calls = 2
			}
			if probe != nil && probe.Errors != nil {
				errs = 2 // without Panics, the panic counts as an error
				if way == "Run" {
					errs = 1
				}
			}
			if probe != nil && probe.Panics != nil {
				panics = 1
			}
			p.check(t, way+", "+name, calls, float64(calls), errs, panics)
		}
	}
	p := newProbed(t)
	if apart(func() { p.Do(nil) }) == nil || apart(func() { p.Run(nil) }) == nil {
		t.Error("a nil function does not panic")
	}
	p.check(t, "nil function", 0, 0, 0, 0) // the function was not called
}

// Without a Clock, the system clock is used.
func TestProbeRealClock(t *testing.T) {
	t.Parallel()
	var got float64
	p := gotheus.Probe{Seconds: func(s float64) { got = s }}
	p.Run(func() {
		for start := time.Now(); time.Since(start) < time.Millisecond; {
		}
	})
	if got < 1e-3 || got > 60 {
		t.Errorf("%v s", got)
	}
}

func TestProbeNested(t *testing.T) {
	t.Parallel()
	outer, inner := newProbed(t), newProbed(t)
	f := func() {
		outer.clock.advance(time.Second)
		outer.Do(func() error {
			outer.clock.advance(time.Second)
			_, err := gotheus.Call(t.Context(), &inner.Probe, func(context.Context) (int, error) {
				inner.clock.advance(time.Second)
				return outer.depth(3)
			})
			return fmt.Errorf("outer: %w", err)
		})
	}
	if got := apart(f); got != "at the bottom" {
		t.Errorf("panic %v", got)
	}
	inner.check(t, "inner", 1, 1, 0, 1)
	outer.check(t, "outer", 5, 1, 0, 5) // itself and four calls of depth
}

// depth calls itself recursively, measured each time.
func (p *probed) depth(n int) (int, error) {
	return gotheus.Call(context.Background(), &p.Probe, func(context.Context) (int, error) {
		if n == 0 {
			panic("at the bottom")
		}
		return p.depth(n - 1)
	})
}

func TestProbeConcurrent(t *testing.T) {
	t.Parallel()
	p := newProbed(t)
	const goroutines, calls = 8, 300
	var wait, inside sync.WaitGroup
	inside.Add(goroutines)
	leave := make(chan struct{})
	for i := range goroutines {
		wait.Add(1)
		go func() {
			defer wait.Done()
			p.Run(func() { inside.Done(); <-leave })
			for n := range calls {
				apart(func() {
					p.Do(func() error {
						switch (i + n) % 4 {
						case 0:
							return errTest
						case 1:
							panic("oops")
						case 2:
							runtime.Goexit()
						}
						return nil
					})
				})
			}
		}()
	}
	inside.Wait()
	if v := p.InFlight.Value(); v != goroutines {
		t.Errorf("%v in flight", v)
	}
	close(leave)
	bind(t, p.registry, shmURL(t)) // while calls are in progress
	wait.Wait()
	p.check(t, "all", goroutines*(calls+1), 0, goroutines*calls/4, goroutines*calls/2)
}

func TestProbeAllocations(t *testing.T) {
	// No sampling, which would allocate, happens during the test.
	r, _ := newRegistry(t, &gotheus.RegistryOptions{SampleInterval: time.Hour})
	failures := r.NewCounterVec("failures_total", "F.", nil, "route")
	p := gotheus.Probe{
		Seconds:  r.NewHistogram("seconds", "S.", nil).Observe,
		InFlight: r.NewGauge("in_flight", "I.", nil),
		Errors:   r.NewCounter("errors_total", "E.", nil),
		Panics:   r.NewCounter("panics_total", "P.", nil),
		Match:    gotheus.MatchErrors(io.EOF, errTest),
	}
	ctx, route, n := context.Background(), string([]byte("/")), 0
	check := func(where string) {
		for name, f := range map[string]func(){
			"Do":      func() { p.Do(func() error { n++; return errTest }) },
			"Run":     func() { p.Run(func() { n++ }) },
			"Call":    func() { n, _ = gotheus.Call(ctx, &p, func(context.Context) (int, error) { return n + 1, nil }) },
			"nothing": func() { (*gotheus.Probe)(nil).Run(func() { n++ }) },
			"Call large": func() {
				a, _ := gotheus.Call(ctx, &p, func(context.Context) ([100]int, error) { return [100]int{n}, errTest })
				n += a[0]
			},
			// A probe can be made for a single call, such as when its labels are known
			// only then. (Go allocates method values, such as Observe.)
			"made": func() {
				p := gotheus.Probe{InFlight: p.InFlight, Errors: failures.With(route)}
				p.Do(func() error { n++; return nil })
			},
			"panic": func() {
				defer func() { _ = recover() }()
				p.Run(func() { panic(errTest) })
			},
			"track":    func() { p.InFlight.Inc(); defer p.InFlight.Dec(); n++ },
			"AddSince": func() { defer p.Errors.AddSince(r.Now()) },
		} {
			if allocs := testing.AllocsPerRun(100, f); allocs != 0 {
				t.Errorf("%s: %s allocates %v times", where, name, allocs)
			}
		}
	}
	check("heap")
	bind(t, r, shmURL(t))
	page(t, r) // the first sampling is over
	check("shm")
}

func BenchmarkProbe(b *testing.B) {
	r := gotheus.NewRegistry(nil)
	latency, inFlight, failures := r.NewHistogram("seconds", "S.", nil), r.NewGauge("in_flight", "I.", nil), r.NewCounter("errors_total", "E.", nil)
	p := gotheus.Probe{Seconds: latency.Observe, InFlight: inFlight, Errors: failures}
	f := func() error { return nil }
	byHand := func() (err error) {
		inFlight.Inc()
		defer inFlight.Dec()
		defer latency.ObserveSince(time.Now())
		if err = f(); err != nil {
			failures.Inc()
		}
		return err
	}
	ctx := context.Background()
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"by hand", func() { byHand() }},
		{"Do", func() { p.Do(f) }},
		{"Run", func() { p.Run(func() {}) }},
		{"Call", func() { gotheus.Call(ctx, &p, func(context.Context) (int, error) { return 1, nil }) }},
		{"Do nothing", func() { (*gotheus.Probe)(nil).Do(f) }},
		{"Do, errors only", func() { (&gotheus.Probe{Errors: failures}).Do(f) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.f()
			}
		})
	}
}
