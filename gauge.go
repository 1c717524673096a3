package gotheus

import (
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Gauge is a value that goes up and down. What it means in a backend that processes share is the
// mode in its [GaugeOptions]; by default it is one value for all of them: the last Set wins, Add,
// Inc and Dec add up. All methods may be called concurrently; updates never fail or allocate, and
// never block but for the instant in which the gauge is bound to a backend. Gauges are made by
// [NewGauge], [TryNew] or a [Vec].
type Gauge struct {
	cells  atomic.Pointer[gaugeCells]
	series series.Series
}

type gaugeCells struct {
	words   backend.Words  // see backend.GaugeValue
	tickets *atomic.Uint64 // mode Latest
	parts   bool           // the words belong to this process alone
	touch   bool           // updates are noticed even if they change nothing
}

// Modes of a gauge that several processes have. All but ModeShared are over the live processes:
// what a dead one had is gone at the next scrape. Processes that have never updated the gauge do
// not join Min, Max, Mean and Latest. In the heap, where there is one process, they all mean the
// same, and ModePerProcess goes without the label "process".
const (
	ModeShared     = backend.Shared      // one value: the last Set wins, Add adds
	ModeSum        = backend.Sum         // of the processes' values: for what is in progress
	ModeMin        = backend.Min         // the least
	ModeMax        = backend.Max         // the greatest
	ModeMean       = backend.Mean        // the arithmetic mean
	ModeLatest     = backend.Latest      // the one that was set last
	ModePerProcess = backend.PerInstance // a series per process, with label "process"
)

// Set sets the value, which may also be infinite or NaN.
func (g *Gauge) Set(v float64) {
	bits := word.Bits(v)
	for {
		c := g.cells.Load()
		c.note(backend.GaugeIsSet)
		// Not a plain store, which could overwrite a seal and be lost with it.
		w := &c.words[backend.GaugeValue]
		old := w.Load()
		if old == backend.SealedFloat {
			series.Escape((*gaugeCore)(g), w)
		} else if w.CompareAndSwap(old, bits) {
			c.join()
			return
		}
	}
}

// note sets flags before the value changes: a move must know what kind of value it carries over.
func (c *gaugeCells) note(flags uint64) {
	w := &c.words[backend.GaugeFlags]
	if w.Load()&flags != flags {
		w.Or(flags)
	}
	if c.touch {
		w.Add(backend.GaugeTouch)
	}
}

// join records, after an update, that this process has updated the gauge, and for ModeLatest when,
// in an order that all processes share.
func (c *gaugeCells) join() {
	if !c.parts {
		return
	}
	if w := &c.words[backend.GaugeFlags]; w.Load()&backend.GaugeJoined == 0 {
		w.Or(backend.GaugeJoined)
	}
	if c.tickets == nil {
		return
	}
	w, ticket := &c.words[backend.GaugeTicket], c.tickets.Add(1)
	for old := w.Load(); old < ticket && !w.CompareAndSwap(old, ticket); old = w.Load() {
	}
}

// Add adds v, which may be negative.
func (g *Gauge) Add(v float64) {
	for {
		c := g.cells.Load()
		if c.touch {
			c.note(0)
		}
		w := &c.words[backend.GaugeValue]
		if word.AddFloat(w, v) {
			c.join()
			return
		}
		series.Escape((*gaugeCore)(g), w)
	}
}

// Sub subtracts v, which may be negative.
func (g *Gauge) Sub(v float64) { g.Add(-v) }

// Inc adds 1. What is going on right now is counted by
//
//	inFlight.Inc()
//	defer inFlight.Dec()
//
// which is right also when the function panics, and allocates nothing.
func (g *Gauge) Inc() { g.Add(1) }

// Dec subtracts 1.
func (g *Gauge) Dec() { g.Add(-1) }

// SetToCurrentTime sets the value to the time in seconds since 1970, with a fraction, by the
// registry's clock.
func (g *Gauge) SetToCurrentTime() {
	now := g.series.Family().Home.Now()
	g.Set(float64(now.Unix()) + float64(now.Nanosecond())/1e9) // UnixNano has no year 1
}

// SetSince sets the value to the seconds that have passed since start by the registry's clock,
// whether the function returns or panics, as in
//
//	defer lastRun.SetSince(time.Now())
//
// A start that cannot be right is treated as [Histogram.ObserveSince] does.
func (g *Gauge) SetSince(start time.Time) { g.Set(g.series.Family().Since("Gauge.SetSince", start)) }

// Value returns the value: in ModeShared that of all processes, in other modes that of this one.
// Over a store, such as Redis, it is in all modes what this process has set and added itself; what
// others did is on pages.
func (g *Gauge) Value() float64 {
	home := g.series.Family().Home
	home.Moves.Lock()
	defer home.Moves.Unlock()
	return word.Float(&g.series.Words()[backend.GaugeValue])
}
