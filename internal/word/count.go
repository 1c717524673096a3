package word

import (
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// Result says what became of an addition to a count.
type Result int

const (
	Added  Result = iota
	Full          // the word would exceed its limit
	Sealed        // the word no longer counts
)

// AddCount adds n < 2^53 to a count that holds at most limit, which is at most backend.IntLimit.
// Small numbers are added without compare-and-swap: to get from the limit to the seal by them would
// take 2^30 goroutines that are all between the check and the addition.
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

// CarryCount adds n, which another word has held, to a count. The word stays at the limit where
// both together would exceed it, as they can if several processes were bound with that much.
func CarryCount(w *atomic.Uint64, n, limit uint64) {
	for n > 0 {
		old := w.Load()
		if old >= backend.SealedInt || w.CompareAndSwap(old, max(old, min(old+n, limit))) {
			return
		}
	}
}
