package page

import (
	"math/bits"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/sparse"
	"github.com/gotheus/gotheus/internal/word"
)

// Reader reads series while their words are being updated. It holds buffers that it reuses from one
// series to the next, and must not be used concurrently.
type Reader struct {
	Blocks []index.Block // of the series that is read next

	counts  []uint64 // of one stripe
	buckets []sparse.Bucket
	points  []point
	native  expo.Native
	fetched uint64 // meaningless, see prefetch
}

// point is a value and the number of its observations.
type point struct {
	value float64
	count uint64
}

func (r *Reader) release() { clear(r.Blocks[:cap(r.Blocks)]) }

// prefetched is the number of series that are prefetched at once.
const prefetched = 32

// prefetch touches the rows, label texts and words of series that are about to be read. They are
// scattered in memory and in no cache; touching many in a row makes the processor wait for all of
// them at the same time. The sum in fetched keeps the compiler from removing the reads.
func (r *Reader) prefetch(list []*backend.Series) {
	for _, s := range list {
		r.fetched += uint64(len(s.Labels))
	}
	for _, s := range list {
		if n := len(s.Labels); n > 0 {
			r.fetched += uint64(s.Labels[n-1])
		}
		if n := len(s.Words); n > 0 {
			r.fetched += s.Words[n-1].Load()
		}
	}
}

func start(f *backend.Family, w backend.Words) int64 {
	if start := f.Start(w); start != nil {
		return int64(word.Int(start))
	}
	return 0
}

// Counter reads a counter, whose value is the sum of both results.
func Counter(f *backend.Family, w backend.Words) (whole uint64, rest float64) {
	if f.Stripes != 0 {
		return stripedCounter(f, w)
	}
	return word.Int(&w[backend.CounterInt]), word.Float(&w[backend.CounterFloat])
}

func stripedCounter(f *backend.Family, w backend.Words) (whole uint64, rest float64) {
	over := uint64(0) // multiples of 2^64
	for each := f.StripeWords(); len(w) > 0; w = w[each:] {
		n, carry := bits.Add64(whole, word.Int(&w[backend.CounterInt]), 0)
		whole, over = n, over+carry
		rest += word.Float(&w[backend.CounterFloat])
	}
	if over > 0 || whole >= backend.IntLimit {
		// Only now, so that the order of addition is always the same, and the value never
		// decreases.
		whole, rest = 0, float64(over)*(1<<64)+float64(whole)+rest
	}
	return whole, rest
}

// Summary reads the count and the sum of a summary.
func Summary(d *expo.Distribution, w backend.Words) {
	d.Start, d.Native, d.Exemplars, d.Quantiles = 0, nil, nil, d.Quantiles[:0]
	for range 4 {
		d.Count = word.Int(&w[backend.SummaryCount])
		d.Sum = word.Float(&w[backend.SummarySum])
		if d.Count == word.Int(&w[backend.SummaryCount]) {
			break
		}
	}
}
