// Package word reads, updates and seals the words that hold the values of series. See package
// backend for what the words of each kind mean.
package word

import (
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// Finite reports whether v is neither infinite nor NaN.
func Finite(v float64) bool { return v-v == 0 }

// Int returns the value of an integer word; a sealed word counts as zero.
func Int(w *atomic.Uint64) uint64 {
	if n := w.Load(); n < backend.SealedInt {
		return n
	}
	return 0
}

// Float returns the value of a float word; a sealed word counts as zero.
func Float(w *atomic.Uint64) float64 {
	if bits := w.Load(); bits != backend.SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}

// SealInt seals an integer word and returns its value, or zero if it was sealed before.
func SealInt(w *atomic.Uint64) uint64 {
	if n := w.Swap(backend.SealedInt); n < backend.SealedInt {
		return n
	}
	return 0
}

// SealFloat seals a float word and returns its value, or zero if it was sealed before.
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

// Bits returns the bits of v. All NaNs have the same bits, so that none is mistaken for a seal.
func Bits(v float64) uint64 {
	if v != v {
		return 0x7ff8000000000001
	}
	return math.Float64bits(v)
}
