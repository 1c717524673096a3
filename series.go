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
// A seal on words that did not move can only be damage in a shared file. The series then goes on in
// private words, see escape.

// series is what all instruments have in common.
type series struct {
	fam    *family
	labels string // label text

	// Guarded by the registry's moveMu.
	words backend.Words
	home  *binding // whose words they are; nil: private ones, until home has room
}

func (s *series) base() *series { return s }

// private reports whether the words belong to this series alone, so that they must be carried along
// when it moves; shared words stay behind with what is in them.
func (s *series) private() bool { return s.home == nil || s.home.local }

// instrument is implemented by *Counter, *Gauge, *Histogram and *Summary.
type instrument interface {
	base() *series
	// move publishes to as the instrument's words and, if from is not nil, seals from and carries
	// its contents over. The registry's moveMu is held.
	move(to, from backend.Words)
}

// escape is called by an update that has found word sealed in the words that m still points to.
func (s *series) escape(m instrument, word *atomic.Uint64) {
	r := s.fam.reg
	r.moveMu.Lock()
	for i := range s.words {
		if &s.words[i] == word {
			s.words, s.home = make(backend.Words, len(s.words)), nil
			m.move(s.words, nil)
			defer r.postpone(s.fam, errSealed, func() error { return r.settle(m) })
			break
		}
	}
	r.moveMu.Unlock()
}

// sealed reports whether any of the words of a series carries a seal.
func sealed(k backend.Kind, words backend.Words) bool {
	for i := range words {
		v := words[i].Load()
		var float bool
		switch k {
		case backend.Counter:
			float = i == backend.CounterFloat
		case backend.Gauge:
			float = i == backend.GaugeValue
		case backend.Histogram:
			float = i == backend.HistogramSum
		case backend.Summary:
			float = i == backend.SummarySum
		}
		if float && v == backend.SealedFloat || !float && v >= backend.SealedInt {
			return true
		}
	}
	return false
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

func loadFloat(w *atomic.Uint64) float64 { return math.Float64frombits(w.Load()) }
