package page

import (
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/sparse"
	"github.com/gotheus/gotheus/internal/word"
)

// Reader reads series whose words are being updated. It reuses its memory from one series to the
// next.
type Reader struct {
	Blocks []index.Block // of the series to read next

	counts  []uint64 // of one stripe
	buckets []sparse.Bucket
	points  []point
	native  expo.Native
	fetched uint64 // meaningless, see prefetch
}

// point is a value and how often it was observed.
type point struct {
	value float64
	count uint64
}

func (r *Reader) release() { clear(r.Blocks[:cap(r.Blocks)]) }

// prefetched is how many series are prefetched at once.
const prefetched = 32

// prefetch reads a little of each of some series that are about to be read, so that the processor
// waits for the memory of all of them at the same time: rows, label texts and words of many series
// are scattered, and in no cache.
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

// Counter reads a counter: its value is the sum of both results.
func Counter(f *backend.Family, w backend.Words) (whole uint64, rest float64) {
	if f.Stripes != 0 {
		return stripedCounter(f, w)
	}
	return word.Int(&w[backend.CounterInt]), word.Float(&w[backend.CounterFloat])
}

func stripedCounter(f *backend.Family, w backend.Words) (whole uint64, rest float64) {
	for each := f.StripeWords(); len(w) > 0; w = w[each:] {
		n := word.Int(&w[backend.CounterInt])
		rest += word.Float(&w[backend.CounterFloat])
		if whole += n; whole >= backend.IntLimit { // the sum of several could wrap
			whole, rest = 0, rest+float64(whole)
		}
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
