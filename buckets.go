package gotheus

import (
	"cmp"
	"fmt"
	"math"

	"github.com/gotheus/gotheus/internal/backend"
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

// NativeOptions describe exponential buckets, those of Prometheus' native histograms: each bound is
// a factor times the one before. Only buckets in use exist, and they cover all floats. The zero
// value stands for the defaults. See docs/distributions.md in the repository for what they cost.
type NativeOptions struct {
	// Factor is the largest acceptable ratio of a bound to the one before. The largest factor
	// of Prometheus that does not exceed it is used, see SchemaFactor, or the smallest if all
	// do. It must be above 1; 0: 1.1, which gives 1.0905.
	Factor float64
	// ZeroThreshold is the absolute value up to which observations count as zero. 0: 2^-128;
	// negative: only zero itself does.
	ZeroThreshold float64
	// MaxBuckets is the most buckets that a series has on a page, negative ones included; 0:
	// 160. A series whose observations need more is shown with buckets twice, four times, … as
	// wide. The limit holds however many processes write, and even if one dies while it does.
	MaxBuckets int
}

// SchemaFactor returns the ratio of neighbouring bounds in Prometheus' native histograms with a
// schema from -4 (65536) to 8 (1.0027), which is 2^(2^-schema).
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
