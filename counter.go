package gotheus

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Counter is a value that only goes up. All methods may be called concurrently; updates never
// block, fail or allocate. Counters come from [NewCounter], [TryNew] or a [Vec].
type Counter struct {
	// n points to the integer word, one of two whose sum is the value, see backend.CounterInt.
	// It is kept here, besides the pointers in series, because Inc may follow only one pointer
	// to stay within the inlining budget.
	n atomic.Pointer[atomic.Uint64]

	// striped says that the value is the sum over stripes, see series.Stripes; n is nil then.
	// It never changes. It is not in series because of the inlining budget of Inc.
	striped bool
	series  series.Series

	// room is used for the words in the registry's own heap, see series.Instrument. It shares
	// no cache line with other counters or with what look-ups read, see lookup.Entry.
	room [3]atomic.Uint64
}

// Inc adds 1.
func (c *Counter) Inc() {
	if c.striped || c.n.Load().Add(1) >= backend.SealedInt {
		c.incOtherwise() // an addition to a sealed word does not count
	}
}

// incOtherwise is Inc for stripes and sealed words. It is not inlined, so that Inc can be.
//
//go:noinline
func (c *Counter) incOtherwise() {
	if c.striped {
		s := c.series.Stripes()
		if s.Words[s.Offset()+backend.CounterInt].Add(1) < backend.SealedInt {
			return
		}
	}
	c.addInt(1)
}

// integer and float return the word to add to.

func (c *Counter) integer() *atomic.Uint64 {
	if c.striped {
		s := c.series.Stripes()
		return &s.Words[s.Offset()+backend.CounterInt]
	}
	return c.n.Load()
}

func (c *Counter) float() *atomic.Uint64 {
	if c.striped {
		s := c.series.Stripes()
		return &s.Words[s.Offset()+backend.CounterFloat]
	}
	return &c.series.Words()[backend.CounterFloat]
}

// Add adds v, which must be finite and not negative. Any other v is ignored, counted in
// gotheus_rejected_updates_total and logged. Integers below 2^53 are added without rounding.
func (c *Counter) Add(v float64) {
	switch {
	case v >= 0 && v < 1<<53 && v == float64(uint64(v)):
		c.addInt(uint64(v))
	case v > 0 && word.Finite(v):
		c.addFloat(v)
	default:
		c.series.Family().Reject("Counter.Add", v, "must be finite and not negative")
	}
}

// addInt adds n < 2^53 to the integer word. A word at its limit takes no more, so that it never
// reaches the seal: large numbers are added by compare-and-swap, and with small ones, 2^30
// goroutines would all have to be between the check and the addition.
func (c *Counter) addInt(n uint64) {
	for {
		w := c.integer()
		old := w.Load()
		switch {
		case old >= backend.SealedInt:
			// If the counter has moved, its new pointer was published before the word
			// was sealed.
			if c.striped || c.n.Load() == w {
				series.Escape((*counterCore)(c), w)
			}
		case old+n >= backend.IntLimit:
			c.addFloat(float64(n))
			return
		case n < 1<<32:
			if int64(w.Add(n)) >= 0 {
				return
			}
		case w.CompareAndSwap(old, old+n):
			return
		}
	}
}

func (c *Counter) addFloat(v float64) {
	for w := c.float(); !word.AddFloat(w, v); w = c.float() {
		if c.striped || c.float() == w {
			series.Escape((*counterCore)(c), w)
		}
	}
}

// AddExemplar adds v as Add does, with an exemplar. Its labels can be chosen freely and do not
// identify the series. The names and values together may have at most 128 code points; names must
// not be empty, contain control characters or begin with __; values must not contain NUL bytes; all
// must be UTF-8. If the labels break these rules, or the backend has no room, v is added without
// it, which is logged. The page shows the newest exemplar of the series. It is kept in the backend,
// and lost when the counter moves to another one. It costs a few hundred nanoseconds.
func (c *Counter) AddExemplar(v float64, labels Labels) {
	c.Add(v)
	if v >= 0 && word.Finite(v) {
		c.series.Exemplify("Counter.AddExemplar", 0, v, labels)
	}
}

// AddContext adds v as Add does, with the exemplar that RegistryOptions.Exemplar returns for ctx,
// if any; see AddExemplar.
func (c *Counter) AddContext(ctx context.Context, v float64) {
	c.AddExemplar(v, c.series.Family().Home.ExemplarOf(ctx))
}

// AddSince adds the seconds elapsed since start by the registry's clock. Deferred, it measures a
// function whether it returns or panics:
//
//	defer busySeconds.AddSince(time.Now())
//
// An invalid start is treated as in [Histogram.ObserveSince].
func (c *Counter) AddSince(start time.Time) {
	c.Add(c.series.Family().Since("Counter.AddSince", start))
}

// Value returns the value. In shared memory, it is that of all processes. With a store, such as
// Redis, it is what this process has counted, without what other processes took over while they
// believed it dead; the total is on pages.
func (c *Counter) Value() float64 {
	f := c.series.Family()
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	var n expo.Number
	n.Int, n.Float = page.Counter(f.Def, c.series.Words())
	return n.Value()
}

// counterCore is the series.Instrument of a Counter, see coreOf.
type counterCore Counter

// Series implements series.Instrument.
func (c *counterCore) Series() *series.Series { return &c.series }

// Exponents implements series.Instrument.
func (c *counterCore) Exponents() *series.Exponents { return nil }

// Room implements series.Instrument.
func (c *counterCore) Room() backend.Words { return c.room[:] }

// Move implements series.Instrument.
func (c *counterCore) Move(to, from backend.Words) {
	f := c.series.Family()
	if f.Def.Stripes == 0 {
		c.n.Store(&to[backend.CounterInt])
	} else if !c.striped {
		c.striped = true // no lock: the counter is new and not shared yet
	}
	if from != nil {
		f.CarryCounter(to, from)
	}
}
