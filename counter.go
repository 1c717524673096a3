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

// Counter is a value that only goes up. All methods may be called concurrently; updates never block,
// fail or allocate. Counters are made by [NewCounter], [TryNew] or a [Vec].
type Counter struct {
	// n points to the integer word of the two that together are the value, see backend.CounterInt. Inc must be
	// inlined, which leaves no room for more than one pointer to follow: hence this one besides those in series.
	n atomic.Pointer[atomic.Uint64]

	// Or, if there are stripes, it is the sum of their words, see spot, and n is nil. This never changes, and is not
	// part of series, since Inc has but the budget for this.
	striped bool
	series  series.Series

	// room is for the words in the registry's own heap, see family.firstCells. Other counters, and what
	// look-ups of this one read, are in other cache lines, see entry.
	room [3]atomic.Uint64
}

// Inc adds 1.
func (c *Counter) Inc() {
	if c.striped || c.n.Load().Add(1) >= backend.SealedInt {
		c.incOtherwise() // a word that was sealed has not counted this
	}
}

// incOtherwise is not inlined so that Inc can be.
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

// integer and float return the words to add to.

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

// Add adds v, which must be finite and not negative; otherwise the counter stays as it is, and the
// attempt is counted in gotheus_rejected_updates_total and logged. Integers below 2^53 are added
// without rounding.
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

// addInt adds n < 2^53 to the integer word. A word at its limit takes no more, so that it never runs
// into the seal: large numbers are added by compare-and-swap, and it would take 2^30 goroutines that
// are all between the check and the addition to get there by small ones.
func (c *Counter) addInt(n uint64) {
	for {
		w := c.integer()
		old := w.Load()
		switch {
		case old >= backend.SealedInt:
			// If it has moved, the new pointer was published before the seal was set.
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

// AddExemplar adds v as Add does, with an exemplar. Its labels can be any: they do not tell series
// apart. They may have at most 128 code points, names and values together. Otherwise, or if a name
// is empty, has control characters or begins with __, if a value has a NUL byte, if something is
// not UTF-8, or if the backend has no room, v is added and the exemplar dropped, which is logged.
// The page shows the newest of the series. It is kept in the backend, and forgotten when the
// counter is bound to another one. It costs a few hundred nanoseconds.
func (c *Counter) AddExemplar(v float64, labels Labels) {
	c.Add(v)
	if v >= 0 && word.Finite(v) {
		c.series.Exemplify("Counter.AddExemplar", 0, v, labels)
	}
}

// AddContext adds v as Add does, with the exemplar that RegistryOptions.Exemplar returns for ctx, if any. See
// AddExemplar.
func (c *Counter) AddContext(ctx context.Context, v float64) {
	c.AddExemplar(v, c.series.Family().Home.ExemplarOf(ctx))
}

// AddSince adds the seconds that have passed since start by the registry's clock, whether the function
// returns or panics, as in
//
//	defer busySeconds.AddSince(time.Now())
//
// A start that cannot be right is treated as [Histogram.ObserveSince] does.
func (c *Counter) AddSince(start time.Time) {
	c.Add(c.series.Family().Since("Counter.AddSince", start))
}

// Value returns the value: in shared memory that of all processes. Over a store, such as Redis, it is what this process
// has counted, without what was taken over by others while they took it for dead; the total is on pages.
func (c *Counter) Value() float64 {
	f := c.series.Family()
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	var n expo.Number
	n.Int, n.Float = page.Counter(f.Def, c.series.Words())
	return n.Value()
}
