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
	Sealed        // the series has moved or was deleted; nothing was counted
)

// AddCount adds n < 2^53 to a count that holds at most limit, which is at most backend.IntLimit. It
// adds small numbers without compare-and-swap: for these to get from the limit to the seal, 2^30
// goroutines would all have to be between the check and the addition.
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

// CarryCount adds n, the contents of another word, to a count. If the sum would exceed the limit,
// as it can when several processes carry over large counts, the word becomes limit.
func CarryCount(w *atomic.Uint64, n, limit uint64) {
	for n > 0 {
		old := w.Load()
		if old >= backend.SealedInt || w.CompareAndSwap(old, max(old, min(old+n, limit))) {
			return
		}
	}
}
