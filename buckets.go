package gotheus

import (
	"cmp"
	"fmt"
	"math"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/word"
)

// DefaultBuckets returns the bounds of histograms that give none: .005, .01, .025, .05, .1, .25,
// .5, 1, 2.5, 5 and 10, made for durations of requests in seconds.
func DefaultBuckets() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// LinearBuckets returns n bounds, the first being start and each being width above the one before.
// It panics with an error that wraps ErrInvalid unless n is positive, width is positive, and all
// bounds are finite.
func LinearBuckets(start, width float64, n int) []float64 {
	if n < 1 || !(width > 0) || !word.Finite(start+width*float64(n)) {
		panic(fmt.Errorf("%w: LinearBuckets(%v, %v, %d): width and n must be positive, bounds finite", ErrInvalid, start, width, n))
	}
	b := make([]float64, n)
	for i := range b {
		b[i] = start + width*float64(i)
	}
	return b
}

// ExponentialBuckets returns n bounds, the first being start and each being factor times the one
// before. It panics with an error that wraps ErrInvalid unless n and start are positive, factor is
// above 1, and all bounds are finite.
func ExponentialBuckets(start, factor float64, n int) []float64 {
	if n < 1 || !(start > 0) || !(factor > 1) || !word.Finite(start*math.Pow(factor, float64(n))) {
		panic(fmt.Errorf("%w: ExponentialBuckets(%v, %v, %d): start and n must be positive, factor above 1, bounds finite", ErrInvalid, start, factor, n))
	}
	b := make([]float64, n)
	for i := range b {
		b[i] = start
		start *= factor
	}
	return b
}

// ExponentialBucketsRange returns n bounds from first to last, each being the same factor times the
// one before. It panics with an error that wraps ErrInvalid unless n is at least 2, first is
// positive, and last is above it and finite.
func ExponentialBucketsRange(first, last float64, n int) []float64 {
	if n < 2 || !(first > 0) || !(last > first) || !word.Finite(last) {
		panic(fmt.Errorf("%w: ExponentialBucketsRange(%v, %v, %d): n must be at least 2, the first bound positive, the last one above it and finite", ErrInvalid, first, last, n))
	}
	b := make([]float64, n)
	from, step := math.Log(first), (math.Log(last)-math.Log(first))/float64(n-1)
	for i := range b {
		b[i] = math.Exp(from + step*float64(i))
	}
	b[0], b[n-1] = first, last // to the last digit
	return b
}

// NativeOptions describe exponential buckets, those of Prometheus' native histograms: each bound is
// the one before times a factor. There are as many as are in use, from the smallest float to the
// largest. The zero value is good. See docs/distributions.md for what they cost.
type NativeOptions struct {
	// Factor is how much larger a bound is than the one before, at most: the next smaller of
	// the factors that Prometheus knows is used, see SchemaFactor. It must be above 1; 0: 1.1,
	// which gives 1.0905.
	Factor float64
	// ZeroThreshold is up to where values, and their negations, count as zero. 0: 2^-128;
	// negative: only zero does.
	ZeroThreshold float64
	// MaxBuckets is how many buckets a series has on a page at most, negative ones included; 0:
	// 160. A series whose observations need more is shown with buckets twice, four times, … as
	// wide. No number of writers and no death of one can exceed it.
	MaxBuckets int
}

// SchemaFactor returns the factor of Prometheus' native histograms with a schema, from -4 (65536)
// to 8 (1.0027): 2^(2^-schema).
func SchemaFactor(schema int) float64 { return math.Exp2(math.Exp2(-float64(schema))) }

func (n *NativeOptions) define() *backend.Native {
	factor := cmp.Or(n.Factor, 1.1)
	schema := -4
	for schema < 8 && SchemaFactor(schema) > factor {
		schema++
	}
	zero := cmp.Or(n.ZeroThreshold, 0x1p-128)
	return &backend.Native{Schema: int8(schema), ZeroThreshold: max(zero, 0), MaxBuckets: uint32(cmp.Or(n.MaxBuckets, 160))}
}
