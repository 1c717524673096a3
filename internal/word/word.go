// Package word reads, updates and seals the words that hold the values of series. Package backend
// defines what the words of each kind mean.
package word

import (
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// Finite reports whether v is neither infinite nor NaN.
func Finite(v float64) bool { return v-v == 0 }

// Int returns the value of an integer word, or zero if it is sealed.
func Int(w *atomic.Uint64) uint64 {
	if n := w.Load(); n < backend.SealedInt {
		return n
	}
	return 0
}

// Float returns the value of a float word, or zero if it is sealed.
func Float(w *atomic.Uint64) float64 {
	if bits := w.Load(); bits != backend.SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}

// SealInt seals an integer word and returns its former value, or zero if it was sealed already. The
// swap makes sure that each count is returned to exactly one caller.
func SealInt(w *atomic.Uint64) uint64 {
	if n := w.Swap(backend.SealedInt); n < backend.SealedInt {
		return n
	}
	return 0
}

// SealFloat seals a float word and returns its former value, as SealInt does.
func SealFloat(w *atomic.Uint64) float64 {
	if bits := w.Swap(backend.SealedFloat); bits != backend.SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}

// AddFloat adds v to a float word. It returns false if the word is sealed.
func AddFloat(w *atomic.Uint64, v float64) bool {
	for {
		old := w.Load()
		if old == backend.SealedFloat {
			return false
		}
		if w.CompareAndSwap(old, Bits(math.Float64frombits(old)+v)) {
			return true
		}
	}
}

// Bits returns the bits of v. It maps all NaNs to the same one, so that none is mistaken for a
// seal.
func Bits(v float64) uint64 {
	if v != v {
		return 0x7ff8000000000001
	}
	return math.Float64bits(v)
}
