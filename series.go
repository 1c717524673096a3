package gotheus

import (
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/backend"
)

// How a series moves from one place to another, at any moment and without losing or doubling an update.
//
// An instrument holds pointers to its words. To move it, the new pointers are published first; then
// each old word is swapped for a seal, and what was in it is added to the new word. An update that
// was quicker than the swap is in what the swap returned. One that was slower finds the seal in the
// result of its own atomic operation, knows that it has not been counted, and goes to the new words.
// Nobody waits.
//
// Setting a gauge does not commute with that addition. A gauge is therefore sealed, carried over and
// only then published; an update that finds the seal waits for moveMu, that is, for the few
// instructions in between.
//
// A seal on words that did not move says that the series was deleted, by whichever process. The update
// brings it back, see escape.

// series is what all instruments have in common.
type series struct {
	fam    *family
	labels string // label text

	// Guarded by fam.mu.
	listed  bool // in fam.series
	waiting bool // for room in the backend

	// Guarded by the registry's moveMu.
	words backend.Words
	home  *binding // whose words they are; nil: private ones, until home has room
}

func (s *series) base() *series { return s }

// private reports whether the words belong to this process alone, so that they must be carried along
// when the series moves; shared words stay behind with what is in them.
func (s *series) private() bool { return s.home == nil || s.home.local || s.fam.def.Parts() }

// instrument is implemented by *Counter, *Gauge, *Histogram and *Summary.
type instrument interface {
	base() *series
	// move publishes to as the instrument's words and, if from is not nil, seals from and carries
	// its contents over. The registry's moveMu is held.
	move(to, from backend.Words)
}

// escape is called by an update that has found word sealed in the words that m still points to. If they
// have not moved meanwhile, the series was deleted: it comes back from zero, in the backend or, if that has
// no room, in private words.
func (s *series) escape(m instrument, word *atomic.Uint64) {
	f := s.fam
	f.mu.Lock()
	defer f.unlock()
	// Another update may have brought it back while this one waited, and have been counted.
	f.reg.moveMu.Lock()
	deleted := false
	for i := range s.words {
		deleted = deleted || &s.words[i] == word && f.def.SealedAt(s.words, i)
	}
	f.reg.moveMu.Unlock()
	if deleted {
		f.place(m)
	}
}

// sealInt seals an integer word and returns what was in it.
func sealInt(w *atomic.Uint64) uint64 {
	if n := w.Swap(backend.SealedInt); n < backend.SealedInt {
		return n
	}
	return 0 // sealed before
}

// sealFloat seals a float word and returns what was in it.
func sealFloat(w *atomic.Uint64) float64 {
	if bits := w.Swap(backend.SealedFloat); bits != backend.SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}

// addFloat adds v to a float word; false says that it is sealed.
func addFloat(w *atomic.Uint64, v float64) bool {
	for {
		old := w.Load()
		if old == backend.SealedFloat {
			return false
		}
		if w.CompareAndSwap(old, floatBits(math.Float64frombits(old)+v)) {
			return true
		}
	}
}

// floatBits makes all NaN alike, so that none is taken for a seal.
func floatBits(v float64) uint64 {
	if v != v {
		return 0x7ff8000000000001
	}
	return math.Float64bits(v)
}
