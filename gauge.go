package gotheus

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Gauge is a value that goes up and down. The mode in its [GaugeOptions] says what it means where
// processes share a backend; by default, they share one value: the last Set wins, and Add, Inc and
// Dec add up. All methods may be called concurrently; updates never fail or allocate, and never
// block except for the instant in which the gauge moves to a backend. Gauges come from [NewGauge],
// [TryNew] or a [Vec].
type Gauge struct {
	cells  atomic.Pointer[gaugeCells]
	series series.Series
}

type gaugeCells struct {
	words   backend.Words  // see backend.GaugeValue
	tickets *atomic.Uint64 // of ModeLatest; nil otherwise
	parts   bool           // the words belong to this process alone
	touch   bool           // updates show in the words even if the value stays the same
}

// Modes say how the page shows a gauge of several processes. All but ModeShared are taken over the
// live processes: the value of a dead one is gone at the next scrape. ModeMin, ModeMax, ModeMean
// and ModeLatest leave out processes that have never updated the gauge. In the heap, where there is
// only one process, all modes mean the same.
const (
	ModeShared Mode = backend.Shared // one value for all: the last Set wins, Add adds
	ModeSum    Mode = backend.Sum    // the sum, as for requests in progress
	ModeMin    Mode = backend.Min    // the smallest value
	ModeMax    Mode = backend.Max    // the largest value
	ModeMean   Mode = backend.Mean   // the arithmetic mean
	ModeLatest Mode = backend.Latest // the value set last
	// ModePerProcess is one series for each process, with the label "process"; in the heap,
	// without.
	ModePerProcess Mode = backend.PerInstance
)

// Set sets the value, which may be infinite or NaN.
func (g *Gauge) Set(v float64) {
	bits := word.Bits(v)
	for {
		c := g.cells.Load()
		c.setFlags(backend.GaugeIsSet)
		// Not a plain store, which could overwrite a seal and be lost with it.
		w := &c.words[backend.GaugeValue]
		old := w.Load()
		if old == backend.SealedFloat {
			series.Escape((*gaugeCore)(g), w)
		} else if w.CompareAndSwap(old, bits) {
			if c.parts {
				if c.join(); g.cells.Load() != c {
					g.joinAgain(c)
				}
				runtime.KeepAlive(g) // see series/reclaim.go
			}
			return
		}
	}
}

// setFlags sets flags before the value changes: code that carries the value over must know whether
// it was set or added to.
func (c *gaugeCells) setFlags(flags uint64) {
	w := &c.words[backend.GaugeFlags]
	if w.Load()&flags != flags {
		w.Or(flags)
	}
	if c.touch {
		w.Add(backend.GaugeTouch)
	}
}

// join records, after an update of c, that this process has updated the gauge, and for ModeLatest a
// ticket that orders updates over all processes. If the gauge has moved since, the update may have
// been carried over before it was recorded; so it must be recorded where the gauge is now, too.
// Move looks once more for what was recorded just before.
func (c *gaugeCells) join() {
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

// joinAgain is join for a gauge that has moved since it was at c.
func (g *Gauge) joinAgain(c *gaugeCells) {
	for now := g.cells.Load(); now != c; now = g.cells.Load() {
		c = now
		c.join()
	}
}

// Add adds v, which may be negative.
func (g *Gauge) Add(v float64) {
	for {
		c := g.cells.Load()
		if c.touch {
			c.setFlags(0)
		}
		w := &c.words[backend.GaugeValue]
		if word.AddFloat(w, v) {
			if c.parts {
				if c.join(); g.cells.Load() != c {
					g.joinAgain(c)
				}
				runtime.KeepAlive(g)
			}
			return
		}
		series.Escape((*gaugeCore)(g), w)
	}
}

// Sub subtracts v, which may be negative.
func (g *Gauge) Sub(v float64) { g.Add(-v) }

// Inc adds 1. To count what is in progress, use
//
//	inFlight.Inc()
//	defer inFlight.Dec()
//
// which allocates nothing and stays correct when the function panics.
func (g *Gauge) Inc() { g.Add(1) }

// Dec subtracts 1.
func (g *Gauge) Dec() { g.Add(-1) }

// SetToCurrentTime sets the value to the current Unix time in seconds, with fractions, by the
// registry's clock.
func (g *Gauge) SetToCurrentTime() {
	now := g.series.Family().Home.Now()
	// Not UnixNano, which overflows for the zero time.
	g.Set(float64(now.Unix()) + float64(now.Nanosecond())/1e9)
}

// SetSince sets the value to the seconds elapsed since start by the registry's clock. Deferred, it
// measures a function whether it returns or panics:
//
//	defer lastRun.SetSince(time.Now())
//
// An invalid start is treated as in [Histogram.ObserveSince].
func (g *Gauge) SetSince(start time.Time) { g.Set(g.series.Family().Since("Gauge.SetSince", start)) }

// Value returns the value: in ModeShared that of all processes, in other modes that of this one.
// With a store, such as Redis, it is in all modes what this process itself has set and added; what
// others did is on pages.
func (g *Gauge) Value() float64 {
	home := g.series.Family().Home
	home.Moves.Lock()
	defer home.Moves.Unlock()
	return word.Float(&g.series.Words()[backend.GaugeValue])
}

// gaugeCore is the series.Instrument of a Gauge, see coreOf.
type gaugeCore Gauge

// Series implements series.Instrument.
func (g *gaugeCore) Series() *series.Series { return &g.series }

// Exponents implements series.Instrument.
func (g *gaugeCore) Exponents() *series.Exponents { return nil }

// Room implements series.Instrument.
func (g *gaugeCore) Room() backend.Words { return nil }

// Move implements series.Instrument.
func (g *gaugeCore) Move(to, from backend.Words) {
	f := g.series.Family()
	c := &gaugeCells{words: to, parts: f.Def.Parts(), touch: f.TTL > 0}
	if f.Def.Mode == backend.Latest {
		c.tickets = f.Home.Current().Tickets()
	}
	carried := from != nil && f.CarryGauge(to, from) && c.parts
	before := carried && joined(from)
	if before {
		c.join()
	}
	g.cells.Store(c)
	if carried && !before && joined(from) { // since then, see Gauge.join
		c.join()
	}
}

func joined(words backend.Words) bool {
	return words[backend.GaugeFlags].Load()&backend.GaugeJoined != 0
}
