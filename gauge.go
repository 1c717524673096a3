package gotheus

import (
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// Gauge is a value that goes up and down. In a backend that processes share it is one value for all of
// them: the last Set wins, Add, Inc and Dec add up. All methods may be called concurrently; updates
// never fail or allocate, and never block but for the instant in which the gauge is bound to a backend.
// Gauges are made by [NewGauge], [New] or a [Vec].
type Gauge struct {
	cells atomic.Pointer[[2]atomic.Uint64] // see backend.GaugeValue
	series
}

// Set sets the value, which may also be infinite or NaN.
func (g *Gauge) Set(v float64) {
	bits := floatBits(v)
	for {
		c := g.cells.Load()
		// Before the value: whoever carries the value over must know what kind it is.
		if c[backend.GaugeSet].Load() == 0 {
			c[backend.GaugeSet].Store(1)
		}
		// Not a plain store, which could overwrite a seal and be lost with it.
		old := c[backend.GaugeValue].Load()
		if old == backend.SealedFloat {
			g.escape(g, &c[backend.GaugeValue])
		} else if c[backend.GaugeValue].CompareAndSwap(old, bits) {
			return
		}
	}
}

// Add adds v, which may be negative.
func (g *Gauge) Add(v float64) {
	for w := &g.cells.Load()[backend.GaugeValue]; !addFloat(w, v); w = &g.cells.Load()[backend.GaugeValue] {
		g.escape(g, w)
	}
}

// Inc adds 1. What is going on right now is counted by
//
//	inFlight.Inc()
//	defer inFlight.Dec()
//
// which is right also when the function panics, and allocates nothing.
func (g *Gauge) Inc() { g.Add(1) }

// Dec subtracts 1.
func (g *Gauge) Dec() { g.Add(-1) }

// SetToCurrentTime sets the value to the time in seconds since 1970, with a fraction, by the registry's
// clock.
func (g *Gauge) SetToCurrentTime() {
	now := g.fam.reg.Now()
	g.Set(float64(now.Unix()) + float64(now.Nanosecond())/1e9) // UnixNano has no year 1
}

// SetSince sets the value to the seconds that have passed since start by the registry's clock, whether
// the function returns or panics, as in
//
//	defer lastRun.SetSince(time.Now())
func (g *Gauge) SetSince(start time.Time) { g.Set(g.fam.reg.since(start)) }

// Value returns the value as the page of this process would show it, without asking other processes
// for what they have not yet shared.
func (g *Gauge) Value() float64 {
	g.fam.reg.moveMu.Lock()
	defer g.fam.reg.moveMu.Unlock()
	return loadFloat(&g.words[backend.GaugeValue])
}

func (g *Gauge) move(to, from backend.Words) {
	c := (*[2]atomic.Uint64)(to)
	if from != nil {
		v := sealFloat(&from[backend.GaugeValue])
		if from[backend.GaugeSet].Load() != 0 {
			c[backend.GaugeSet].Store(1)
			c[backend.GaugeValue].Store(floatBits(v))
		} else if v != 0 {
			addFloat(&c[backend.GaugeValue], v)
		}
	}
	g.cells.Store(c)
}
