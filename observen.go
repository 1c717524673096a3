package gotheus

import (
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// What histograms and summaries share in counting many observations at once. Observe adds 1 to a word
// and needs none of it: no word gets from its limit to the seal in steps of 1.

// countable reports whether n observations of v can be counted, and rejects them if there are any.
func (f *family) countable(op string, v float64, n uint64) bool {
	switch {
	case n == 0:
	case !finite(v):
		f.reject(op, v, "must be finite")
	case n >= 1<<53:
		f.reject(op, float64(n), "the number of observations must be below 2^53")
	case !finite(v * float64(n)):
		f.reject(op, v, "must be finite also when multiplied by the number of observations")
	default:
		return true
	}
	return false
}

type countResult int

const (
	countAdded  countResult = iota
	countFull               // the word would exceed its limit
	countSealed             // the word no longer counts
)

// addCount adds n < 2^53 to a word of counts that holds no more than limit, at most backend.IntLimit.
// Small numbers are added at once: it would take 2^30 goroutines that are all between the check and the
// addition to get from the limit to the seal by them.
func addCount(w *atomic.Uint64, n, limit uint64) countResult {
	for {
		old := w.Load()
		switch {
		case old >= backend.SealedInt:
			return countSealed
		case old+n > limit:
			return countFull
		case n < 1<<32:
			if int64(w.Add(n)) < 0 {
				return countSealed
			}
			return countAdded
		case w.CompareAndSwap(old, old+n):
			return countAdded
		}
	}
}

// carryCount adds n, which another word has held, to a word of counts. Where both together would exceed
// the limit, as they can if several processes were bound with that much, the word stays at the limit.
func carryCount(w *atomic.Uint64, n, limit uint64) {
	for n > 0 {
		old := w.Load()
		if old >= backend.SealedInt || w.CompareAndSwap(old, max(old, min(old+n, limit))) {
			return
		}
	}
}
