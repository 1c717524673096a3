// Package sparse stores exponential buckets, those of native histograms and of summaries with
// quantiles, in words that any number of processes update at once. A bucket that was never hit
// costs nothing.
//
// A [Scale] maps values to buckets. A [Block] is a small hash table from buckets to counts. When it
// is full, its user continues in another block, which finally has coarser buckets. All blocks of a
// series together are its value, read at the resolution of the coarsest. Nothing in a block ever
// moves, so writers do not wait for each other, and one that is killed leaves no inconsistent
// state.
package sparse

import (
	"math"
	"math/big"
	"math/bits"
	"sync"
)

// Scale divides the finite floats except zero into buckets. With m buckets per doubling, the bucket
// with index i holds values above 2^((i-1)/m) and up to 2^(i/m). A negative value is in the bucket
// of its negation.
type Scale struct {
	m     int32
	upper []uint64 // mantissas of 2^(i/m) for i from 0 to m, without the leading 1
	first []int32  // the lowest possible i, by the first bits of a mantissa
	shift uint     // number of remaining bits of the mantissa
}

const (
	mantissa = 52
	leastExp = -1074 // exponent of the smallest float64
	mostExp  = 1024
)

var scales sync.Map // by m

// ScaleOf returns the scale with m buckets per doubling, from 1 to MaxPerDoubling.
func ScaleOf(m int) *Scale {
	if s, ok := scales.Load(m); ok {
		return s.(*Scale)
	}
	s, _ := scales.LoadOrStore(m, newScale(m))
	return s.(*Scale)
}

// MaxPerDoubling is the finest scale.
const MaxPerDoubling = 1 << 10

// firstBounds are 2^(1/m), by the logarithm of m, as Prometheus has them.
var firstBounds = [...]float64{2, 1.414213562373095, 1.189207115002721, 1.0905077326652577, 1.0442737824274138,
	1.0218971486541166, 1.0108892860517005, 1.0054299011128027, 1.0027112750502025}

// prometheusBound returns 2^(i/m), where m is 2^n and i is less than m, as Prometheus has it in
// tables, from which it reads in which range the values of a bucket are. The tables were made by
// these multiplications, which round the same way on all machines. Most results differ from the
// exact ones, by up to 4 units in the last place.
func prometheusBound(i, n int) float64 {
	switch {
	case i == 0:
		return 1
	case i%2 == 0:
		return prometheusBound(i/2, n-1)
	}
	return prometheusBound(i-1, n) * firstBounds[n]
}

// exactBound returns 2^(i/m) for any m greater than i, correctly rounded. roots are the square root
// of 2, the square root of that, and so on.
func exactBound(i, m int, roots []*big.Float) float64 {
	power := new(big.Float).SetPrec(precision).SetInt64(1)
	for rest, j := 2*i, 0; rest > 0 && j < len(roots); rest, j = 2*rest, j+1 {
		// the binary digits of i/m
		if rest >= m {
			rest -= m
			power.Mul(power, roots[j])
		}
	}
	f, _ := power.Float64()
	return f
}

const precision = 200 // of intermediate results, in bits

// newScale makes the scale of Prometheus where there is one, and one with exact bounds otherwise.
// Both are the same on all machines.
func newScale(m int) *Scale {
	bound := func(i int) float64 { return prometheusBound(i, bits.Len(uint(m))-1) }
	if m&(m-1) != 0 || m >= 1<<len(firstBounds) {
		roots := make([]*big.Float, 100)
		root := new(big.Float).SetPrec(precision).SetInt64(2)
		for i := range roots {
			root = new(big.Float).SetPrec(precision).Sqrt(root)
			roots[i] = root
		}
		bound = func(i int) float64 { return exactBound(i, m, roots) }
	}
	s := &Scale{m: int32(m), upper: make([]uint64, m+1)}
	for i := range m {
		s.upper[i] = math.Float64bits(bound(i)) & (1<<mantissa - 1)
	}
	s.upper[m] = 1 << mantissa
	cells := bits.Len(uint(4 * m))
	s.shift = uint(mantissa - cells)
	s.first = make([]int32, 1<<cells)
	i := int32(0)
	for cell := range s.first {
		for s.upper[i] < uint64(cell)<<s.shift {
			i++
		}
		s.first[cell] = i
	}
	return s
}

// Index returns the index of the bucket of |v|. v must be finite and not zero.
func (s *Scale) Index(v float64) int32 {
	b := math.Float64bits(v) &^ (1 << 63)
	exp, mant := int32(b>>mantissa), b&(1<<mantissa-1)
	if exp == 0 { // subnormal
		n := bits.LeadingZeros64(mant) - (63 - mantissa)
		exp, mant = int32(1-n), mant<<n&(1<<mantissa-1)
	}
	i := s.first[mant>>s.shift]
	for mant > s.upper[i] {
		i++
	}
	return (exp-1023)*s.m + i
}

// Bound returns the upper bound of bucket i of a scale that is coarser by shift: each of its
// buckets unites 2^shift buckets of s. It is infinite above the largest float.
func (s *Scale) Bound(i int32, shift uint) float64 {
	at := int64(i) << shift
	exp := at / int64(s.m)
	rest := at % int64(s.m)
	if rest < 0 {
		rest, exp = rest+int64(s.m), exp-1
	}
	return math.Ldexp(1+float64(s.upper[rest])/(1<<mantissa), int(exp))
}

// Middle returns the value with the least relative distance to all values in a bucket, given as for
// Bound.
func (s *Scale) Middle(i int32, shift uint) float64 {
	lower, upper := s.Bound(i-1, shift), s.Bound(i, shift)
	if math.IsInf(upper, 1) {
		upper = math.MaxFloat64
	}
	// 2·l·u / (l+u), without overflow.
	return min(2*lower/(1+lower/upper), upper)
}

// coarser returns the index of the bucket that contains bucket i on a scale that is coarser by
// shift.
func coarser(i int32, shift uint) int32 {
	return int32((int64(i) + 1<<shift - 1) >> shift)
}

// CoarsestShift returns the greatest shift of buckets, at which each spans a factor of 2^16 or
// more.
func CoarsestShift(m int) uint { return uint(bits.Len(uint(m-1))) + 4 }

// A coarseness is a shift or, above CoarsestShift, says how many buckets next to zero are merged
// into the zero bucket, so that at some coarseness everything is in one bucket.

// mostCoarse is the coarseness at which everything is in the zero bucket.
func mostCoarse(m int) uint64 {
	s := CoarsestShift(m)
	return uint64(s) + uint64(coarser(mostExp*int32(m), s)-coarser(leastExp*int32(m), s)+1)
}

// zeroUpTo returns the highest index, at the coarsest shift, that a coarseness merges into the zero
// bucket.
func zeroUpTo(m int, coarse uint64) (index int32, ok bool) {
	s := CoarsestShift(m)
	if coarse <= uint64(s) {
		return 0, false
	}
	return coarser(leastExp*int32(m), s) - 1 + int32(min(coarse, mostCoarse(m))-uint64(s)), true
}
