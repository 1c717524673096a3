package gotheus_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// fakeClock stands still unless it is told to go on.
type fakeClock struct{ nanos atomic.Int64 }

func newFakeClock() *fakeClock {
	c := new(fakeClock)
	c.nanos.Store(1_700_000_000e9)
	return c
}

func (c *fakeClock) now() time.Time           { return time.Unix(0, c.nanos.Load()) }
func (c *fakeClock) advance(by time.Duration) { c.nanos.Add(int64(by)) }
func (c *fakeClock) options() *gotheus.RegistryOptions {
	return &gotheus.RegistryOptions{Now: c.now}
}

func TestClock(t *testing.T) {
	t.Parallel()
	clock := newFakeClock()
	r, _ := newRegistry(t, clock.options())
	c, g, h, s := r.NewCounter("c_total", "C.", nil), r.NewGauge("g", "G.", nil), r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
	last := r.NewGauge("last", "L.", nil)
	if got := r.Now(); !got.Equal(clock.now()) {
		t.Errorf("Now: %v", got)
	}
	func() {
		defer func() { _ = recover() }()
		start := r.Now()
		defer c.AddSince(start)
		defer g.SetSince(start)
		defer h.ObserveSince(start)
		defer s.ObserveSince(start)
		clock.advance(1500 * time.Millisecond)
		last.SetToCurrentTime()
		panic("oops")
	}()
	pageHas(t, r, "c_total 1.5", "g 1.5", "h_sum 1.5", "h_count 1", "s_sum 1.5", "s_count 1", "last 1.7000000015e+09")

}

// A start that is later than now, by another clock or since this one was set back, and one that was never set,
// count as no time, and that is reported.
func TestStartThatCannotBeRight(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]func(now time.Time) time.Time{
		"set back":      func(now time.Time) time.Time { return now.Add(time.Millisecond) },
		"another clock": func(time.Time) time.Time { return time.Now().AddDate(100, 0, 0) },
		"forgotten":     func(time.Time) time.Time { return time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := newFakeClock()
			r, log := newRegistry(t, clock.options())
			start := of(clock.now())
			r.NewCounter("c_total", "C.", nil).AddSince(start)
			r.NewGauge("g", "G.", nil).SetSince(start)
			r.NewHistogram("h", "H.", nil).ObserveSince(start)
			r.NewSummary("s", "S.", nil).ObserveSince(start)
			pageHas(t, r, "c_total 0", "g 0", "h_sum 0", "h_count 1", "s_sum 0", "s_count 1",
				`gotheus_rejected_updates_total{metric="c_total"} 1`, `gotheus_rejected_updates_total{metric="g"} 1`,
				`gotheus_rejected_updates_total{metric="h"} 1`, `gotheus_rejected_updates_total{metric="s"} 1`)
			for _, part := range []string{"a time was taken as 0", "metric=h", "operation=Histogram.ObserveSince", start.Format("2006-01-02")} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("the log lacks %q: %s", part, log)
				}
			}
		})
	}

	// A clock of a test may begin at the zero time.
	var now time.Time
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Now: func() time.Time { return now }, NoSelfMetrics: true})
	start := r.Now()
	now = now.Add(2 * time.Second)
	r.NewSummary("s", "S.", nil).ObserveSince(start)
	pageHas(t, r, "s_sum 2", "s_count 1")
}

// Without a clock of its own, a registry uses the machine's, monotonic part and all.
func TestRealClock(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	before := time.Now()
	if d := r.Now().Sub(before); d < 0 || d > time.Minute {
		t.Errorf("Now is %v after time.Now", d)
	}
	c := r.NewCounter("c_total", "C.", nil)
	c.AddSince(before)
	if v := c.Value(); v <= 0 || v > 60 {
		t.Errorf("AddSince added %v", v)
	}
	for _, year1 := range []time.Time{{}, time.Unix(0, 0)} { // where UnixNano is not defined, and 0
		odd, _ := newRegistry(t, &gotheus.RegistryOptions{Now: func() time.Time { return year1 }})
		g := odd.NewGauge("g", "G.", nil)
		g.SetToCurrentTime()
		if g.Value() != float64(year1.Unix()) {
			t.Errorf("got %v at %v", g.Value(), year1)
		}
	}
}

// Nothing but what is about time asks for the time.
func TestClockIsNotOnTheWay(t *testing.T) {
	t.Parallel()
	asked := 0
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Now: func() time.Time { asked++; return time.Time{} }})
	v := r.NewCounterVec("v_total", "V.", nil, "x")
	c, g, h, s := r.NewCounter("c_total", "C.", nil), r.NewGauge("g", "G.", nil), r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
	update := func() {
		c.Inc()
		c.Add(.5)
		c.Add(-1)
		g.Set(1)
		g.Add(1)
		g.Inc()
		g.Dec()
		h.Observe(1)
		s.Observe(1)
		v.With("y").Inc()
	}
	update()
	bind(t, r, shmURL(t))
	asked = 0 // the series that are new in the file begin now
	update()
	page(t, r)
	if asked != 0 {
		t.Errorf("the clock was asked %d times", asked)
	}
	g.SetToCurrentTime()
	if asked != 1 {
		t.Errorf("SetToCurrentTime asked the clock %d times", asked)
	}
}
