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

// newScale computes the bounds with big.Float, so that they are correctly rounded and the same on
// all machines.
func newScale(m int) *Scale {
	const digits, precision = 100, 200
	roots := make([]*big.Float, digits) // 2^(1/2), 2^(1/4), …
	root := new(big.Float).SetPrec(precision).SetInt64(2)
	for i := range roots {
		root = new(big.Float).SetPrec(precision).Sqrt(root)
		roots[i] = root
	}
	s := &Scale{m: int32(m), upper: make([]uint64, m+1)}
	for i := range m {
		power := new(big.Float).SetPrec(precision).SetInt64(1)
		for rest, j := 2*i, 0; rest > 0 && j < digits; rest, j = 2*rest, j+1 {
			// the binary digits of i/m
			if rest >= m {
				rest -= m
				power.Mul(power, roots[j])
			}
		}
		f, _ := power.Float64()
		s.upper[i] = math.Float64bits(f) & (1<<mantissa - 1)
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
