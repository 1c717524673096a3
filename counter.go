package gotheus

import (
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// Counter is a value that only goes up. All methods may be called concurrently; updates never block,
// fail or allocate. Counters are made by [NewCounter], [New] or a [Vec].
type Counter struct {
	// n and f point to the two words that together are the value, see backend.CounterInt. Inc
	// must be inlined, which leaves no room for more than one pointer to follow: hence one each.
	n, f atomic.Pointer[atomic.Uint64]
	series
}

// Inc adds 1.
func (c *Counter) Inc() {
	if int64(c.n.Load().Add(1)) < 0 {
		c.incAgain() // the word was sealed: this has not been counted
	}
}

// incAgain is not inlined so that Inc can be.
//
//go:noinline
func (c *Counter) incAgain() { c.addInt(1) }

// Add adds v, which must be finite and not negative; otherwise the counter stays as it is, and the
// attempt is counted in gotheus_rejected_updates_total and logged. Integers below 2^53 are added
// without rounding.
func (c *Counter) Add(v float64) {
	switch {
	case v >= 0 && v < 1<<53 && v == float64(uint64(v)):
		c.addInt(uint64(v))
	case v > 0 && finite(v):
		c.addFloat(v)
	default:
		c.fam.reject("Counter.Add", v, "must be finite and not negative")
	}
}

// addInt adds n < 2^53 to the integer word. A word at its limit takes no more, so that it never runs
// into the seal: large numbers are added by compare-and-swap, and it would take 2^30 goroutines that
// are all between the check and the addition to get there by small ones.
func (c *Counter) addInt(n uint64) {
	for {
		w := c.n.Load()
		old := w.Load()
		switch {
		case old >= backend.SealedInt:
			// The new pointer was published before the seal was set.
			if c.n.Load() == w {
				c.escape(c, w)
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
	for w := c.f.Load(); !addFloat(w, v); {
		old := w
		if w = c.f.Load(); w == old {
			c.escape(c, w)
		}
	}
}

// AddSince adds the seconds that have passed since start by the registry's clock, whether the function
// returns or panics, as in
//
//	defer busySeconds.AddSince(time.Now())
func (c *Counter) AddSince(start time.Time) { c.Add(c.fam.reg.since(start)) }

// Value returns the value as the page of this process would show it, without asking other processes
// for what they have not yet shared.
func (c *Counter) Value() float64 {
	c.fam.reg.moveMu.Lock()
	defer c.fam.reg.moveMu.Unlock()
	return readCounter(c.words).Value()
}

func (c *Counter) move(to, from backend.Words) {
	c.f.Store(&to[backend.CounterFloat])
	c.n.Store(&to[backend.CounterInt])
	if from == nil {
		return
	}
	// What cannot be carried because the series is being deleted belongs to the life that ends.
	n, w := sealInt(&from[backend.CounterInt]), &to[backend.CounterInt]
	for n > 0 {
		old := w.Load()
		if old >= backend.SealedInt {
			break
		}
		if old+n >= backend.IntLimit {
			addFloat(&to[backend.CounterFloat], float64(n))
			break
		}
		if w.CompareAndSwap(old, old+n) {
			break
		}
	}
	if v := sealFloat(&from[backend.CounterFloat]); v != 0 {
		addFloat(&to[backend.CounterFloat], v)
	}
}
