// Package exact adds floats without rounding errors. A sum that is rounded once, at the end, does
// not depend on the order of addition. Since rounding is monotone, it does not decrease if no term
// does.
//
// A sum is hi+lo, two floats that are not rounded, and, in the rare case that these two do not have
// enough bits, a rest of any precision. Infinities and NaNs add up as usual.
package exact

import (
	"math"
	"math/big"
)

// Add adds x to the sum hi+lo. The result is newHi+newLo+rest, exactly; rest is nearly always zero.
// lo must be a result of Add, or zero.
func Add(hi, lo, x float64) (newHi, newLo, rest float64) {
	s := hi + x
	v := s - hi
	e := (hi - (s - v)) + (x - v) // what s lacks
	if e-e != 0 {
		return addSpecial(hi, lo, x)
	}
	t := lo + e
	v = t - lo
	return s, t, (lo - (t - v)) + (e - v)
}

// addSpecial is Add if hi or x is infinite or NaN, or if their sum overflows.
func addSpecial(hi, lo, x float64) (newHi, newLo, rest float64) {
	if !finite(hi) || !finite(x) {
		return hi + x, lo, 0
	}
	return hi, lo, x
}

func finite(x float64) bool { return x-x == 0 }

// Sum is an exact sum. The zero Sum has no terms.
type Sum struct {
	Hi, Lo float64 // as returned by Add
	Rest   *Rest   // nil: nothing
}

// Add adds x.
func (s *Sum) Add(x float64) {
	switch { // also preserves -0
	case math.Float64bits(s.Hi) == 0:
		s.Hi = x
		return
	case math.Float64bits(x) == 0:
		return
	}
	var rest float64
	if s.Hi, s.Lo, rest = Add(s.Hi, s.Lo, x); rest != 0 {
		if s.Rest == nil {
			s.Rest = new(Rest)
		}
		s.Rest.Add(rest)
	}
}

// Rounded returns the float nearest to the sum; of two, the even one.
func (s *Sum) Rounded() float64 {
	switch {
	case s.Rest != nil && finite(s.Hi):
		return nearest(s.total())
	case s.Lo == 0:
		return s.Hi // may be -0
	}
	return s.Hi + s.Lo
}

// Split returns the sum as two floats. hi is the sum rounded, and lo the difference. A difference
// that has more bits than a float is rounded up, so that hi+lo is never less than the sum.
func (s *Sum) Split() (hi, lo float64) {
	hi = s.Rounded()
	if !finite(hi) || s.Rest == nil && s.Lo == 0 {
		return hi, 0
	}
	if s.Rest == nil {
		if hi, lo, rest := Add(s.Hi, 0, s.Lo); rest == 0 {
			return hi, lo
		}
	}
	var h Rest
	h.Add(hi)
	total := s.total()
	diff := total.Sub(total, &h.n)
	lo = nearest(diff)
	var l Rest
	if l.Add(lo); l.n.Cmp(diff) < 0 {
		lo = math.Nextafter(lo, math.Inf(1))
	}
	return hi, lo
}

// total returns the sum, which must be finite, in units of 2^-1074.
func (s *Sum) total() *big.Int {
	var t Rest
	if s.Rest != nil {
		t.n.Set(&s.Rest.n)
	}
	t.Add(s.Hi)
	t.Add(s.Lo)
	return &t.n
}

const (
	mantissa = 52
	least    = -1074 // exponent of the smallest float
)

// Rest is a sum of finite floats of any precision.
type Rest struct {
	n big.Int // in units of 2^least
}

// Add adds x, which must be finite.
func (r *Rest) Add(x float64) {
	b := math.Float64bits(x)
	exp, frac := uint(b>>mantissa&0x7ff), b&(1<<mantissa-1)
	if exp > 0 {
		exp--
		frac |= 1 << mantissa
	}
	n := new(big.Int).SetUint64(frac)
	n.Lsh(n, exp)
	if math.Signbit(x) {
		r.n.Sub(&r.n, n)
	} else {
		r.n.Add(&r.n, n)
	}
}

// nearest returns the float nearest to n units.
func nearest(n *big.Int) float64 {
	f := new(big.Float).SetInt(n)
	v, _ := f.SetMantExp(f, least).Float64()
	return v
}

// SubUp returns a-b, rounded up if it is not a float.
func SubUp(a, b float64) float64 {
	d, lack, rest := Add(a, 0, -b)
	switch {
	case rest != 0 || !finite(d): // overflow, or not finite anyway
		return a - b
	case lack > 0:
		return math.Nextafter(d, math.Inf(1))
	}
	return d
}
