package word

import (
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// Result is the outcome of an addition to a count.
type Result int

const (
	Added  Result = iota
	Full          // the word would exceed its limit
	Sealed        // the word no longer counts
)

// AddCount adds n < 2^53 to a count, unless the sum exceeds limit, which is at most
// backend.IntLimit. Small numbers are added without compare-and-swap: to reach the seal by them
// would take 2^30 goroutines that are all between the check and the addition.
func AddCount(w *atomic.Uint64, n, limit uint64) Result {
	for {
		old := w.Load()
		switch {
		case old >= backend.SealedInt:
			return Sealed
		case old+n > limit:
			return Full
		case n < 1<<32:
			if int64(w.Add(n)) < 0 {
				return Sealed
			}
			return Added
		case w.CompareAndSwap(old, old+n):
			return Added
		}
	}
}

// CarryCount adds n, the contents of another word, to a count. The count stops at the limit, which
// the sum can exceed if several processes bind with large counts.
func CarryCount(w *atomic.Uint64, n, limit uint64) {
	for n > 0 {
		old := w.Load()
		if old >= backend.SealedInt || w.CompareAndSwap(old, max(old, min(old+n, limit))) {
			return
		}
	}
}
