package gotheus

import (
	"fmt"
	"math"

	"github.com/gotheus/gotheus/internal/word"
)

// DefaultBuckets returns the bounds of histograms whose options have none: .005, .01, .025, .05,
// .1, .25, .5, 1, 2.5, 5 and 10. They suit request durations in seconds.
func DefaultBuckets() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// LinearBuckets returns n bounds, beginning with start, each width above the one before. It panics
// with an error that wraps ErrInvalid unless n and width are positive and all bounds are finite.
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

// ExponentialBuckets returns n bounds, beginning with start, each factor times the one before. It
// panics with an error that wraps ErrInvalid unless n and start are positive, factor is above 1 and
// all bounds are finite.
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

// ExponentialBucketsRange returns n bounds from first to last, each the same factor times the one
// before. It panics with an error that wraps ErrInvalid unless n is at least 2, first is positive,
// and last is above it and finite.
func ExponentialBucketsRange(first, last float64, n int) []float64 {
	if n < 2 || !(first > 0) || !(last > first) || !word.Finite(last) {
		panic(fmt.Errorf("%w: ExponentialBucketsRange(%v, %v, %d): n must be at least 2, the first bound positive, the last one above it and finite", ErrInvalid, first, last, n))
	}
	b := make([]float64, n)
	from, step := math.Log(first), (math.Log(last)-math.Log(first))/float64(n-1)
	for i := range b {
		b[i] = math.Exp(from + step*float64(i))
	}
	b[0], b[n-1] = first, last // exactly as given
	return b
}

// SchemaFactor returns the ratio of neighbouring bounds in Prometheus' native histograms with a
// schema from -4 (65536) to 8 (1.0027), which is 2^(2^-schema).
func SchemaFactor(schema int) float64 { return math.Exp2(math.Exp2(-float64(schema))) }
