package page

import (
	"cmp"
	"math"
	"slices"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
	"github.com/gotheus/gotheus/internal/word"
)

// Histogram reads a histogram. It derives the count from the buckets, so that the two always agree.
// It reads the buckets again, a limited number of times, until the sum has not changed in between,
// so that the sum differs from them by no more than was observed during one reading. The result
// refers to memory of r.
func (r *Reader) Histogram(d *expo.Distribution, f *backend.Family, w backend.Words) {
	d.Start, d.Native, d.Exemplars, d.Quantiles = 0, nil, nil, d.Quantiles[:0]
	n := 0
	if f.Classic() {
		n = len(f.Buckets) + 1
	}
	d.Buckets = slices.Grow(d.Buckets[:0], n)[:n]
	if f.Stripes != 0 {
		r.stripedHistogram(d, f, w)
		return
	}
	for range 4 {
		before := w[backend.HistogramSum].Load()
		d.Count = 0
		for i := range d.Buckets {
			d.Count = sparse.Plus(d.Count, word.Int(&w[backend.HistogramBuckets+i]))
			d.Buckets[i] = d.Count
		}
		if f.Native != nil {
			// An update counts in the exponential buckets first. Reading them last
			// means that they hold at least what the classic buckets do.
			d.Native = &r.native
			d.Count = r.exponential(f, w)
		}
		d.Sum = word.Float(&w[backend.HistogramSum])
		if before == w[backend.HistogramSum].Load() {
			break
		}
	}
	if n > 0 {
		d.Buckets = d.Buckets[:n-1] // the last one is the count
	}
	if f.Native != nil {
		for i := range d.Buckets { // a deletion may have sealed only some of the words
			d.Buckets[i] = min(d.Buckets[i], d.Count)
		}
	}
}

// stripedHistogram reads a histogram with stripes. It reads each stripe as Histogram does.
func (r *Reader) stripedHistogram(d *expo.Distribution, f *backend.Family, w backend.Words) {
	clear(d.Buckets)
	d.Count, d.Sum = 0, 0
	r.counts = slices.Grow(r.counts[:0], len(d.Buckets))[:len(d.Buckets)]
	for each := f.StripeWords(); len(w) > 0; w = w[each:] {
		sum := 0.0
		for range 4 {
			before := w[backend.HistogramSum].Load()
			for i := range r.counts {
				r.counts[i] = word.Int(&w[backend.HistogramBuckets+i])
			}
			sum = word.Float(&w[backend.HistogramSum])
			if before == w[backend.HistogramSum].Load() {
				break
			}
		}
		d.Sum += sum
		for i, n := range r.counts {
			d.Buckets[i] = sparse.Plus(d.Buckets[i], n)
		}
	}
	for i, n := range d.Buckets {
		d.Count = sparse.Plus(d.Count, n)
		d.Buckets[i] = d.Count
	}
	d.Buckets = d.Buckets[:len(d.Buckets)-1] // the last one is the count
}

// exponential reads the exponential buckets of a series into r.native and returns their total.
// Their resolution is that of the coarsest block, or coarser if there would be more than
// MaxBuckets. The result depends only on the words, so that all processes show the same.
func (r *Reader) exponential(f *backend.Family, w backend.Words) (count uint64) {
	m, coarse, zeros := f.PerDoubling(), uint64(f.Shift()), uint64(0)
	list := r.buckets[:0]
	read := func(f *backend.Family, w backend.Words) {
		b := f.View(w)
		had := len(list)
		more := uint64(0)
		list, more = b.Append(list)
		if zeros = sparse.Plus(zeros, more); more > 0 || len(list) > had {
			coarse = max(coarse, b.Coarse())
		}
	}
	read(f, w)
	for _, b := range r.Blocks {
		if b.Family.Block.Role == backend.BucketRole {
			read(b.Family, b.Words)
		}
	}
	r.buckets = list
	list, more := sparse.Coarsen(list, m, coarse)
	zeros = sparse.Plus(zeros, more)
	for len(list) > int(f.Native.MaxBuckets) {
		coarse++
		list, more = sparse.Coarsen(list, m, coarse)
		zeros = sparse.Plus(zeros, more)
	}
	n := &r.native
	n.Schema = int32(max(f.Native.Schema, 0)) - int32(min(coarse, uint64(sparse.CoarsestShift(m))))
	n.ZeroThreshold = max(f.Native.ZeroThreshold, sparse.ZeroThreshold(m, coarse))
	n.Positive, n.Negative, n.Exemplars = n.Positive[:0], n.Negative[:0], nil
	n.ZeroCount = zeros
	count = zeros
	for _, b := range list {
		// Only the full words of several instances, or a foreign writer, add up to more.
		before := count
		count = sparse.Plus(count, b.Count)
		if b.Count = count - before; b.Count == 0 {
			continue
		}
		if to := &n.Positive; b.Negative {
			n.Negative = append(n.Negative, expo.NativeBucket{Index: b.Index, Count: b.Count})
		} else {
			*to = append(*to, expo.NativeBucket{Index: b.Index, Count: b.Count})
		}
	}
	slices.Reverse(n.Negative)
	return count
}

// quantiles reads the quantiles of a summary over the window that ends in the epoch now. If now is
// 0, the time is unknown, and all observations count. Each block is read at its own resolution: as
// long as every observation is within the error of its value, so is every quantile.
func (r *Reader) quantiles(d *expo.Distribution, f *backend.Family, w backend.Words, now uint64) {
	sketch, m := f.Sketch, f.PerDoubling()
	scale := sparse.ScaleOf(m)
	points, zeros := r.points[:0], uint64(0)
	read := func(f *backend.Family, w backend.Words) {
		b := f.View(w)
		var list []sparse.Bucket
		var more uint64
		if now > 0 {
			list, more = b.AppendSince(r.buckets[:0], sketch.Oldest(now), now)
		} else {
			list, more = b.Append(r.buckets[:0])
		}
		r.buckets = list
		zeros = sparse.Plus(zeros, more)
		if coarse := b.Coarse(); coarse > uint64(b.Shift) {
			list, more = sparse.Coarsen(list, m, coarse)
			zeros = sparse.Plus(zeros, more)
		}
		for _, b := range list {
			v := scale.Middle(b.Index, uint(b.Shift))
			if b.Negative {
				v = -v
			}
			points = append(points, point{v, b.Count})
		}
	}
	read(f, w)
	for _, b := range r.Blocks {
		if b.Family.Block.Role == backend.BucketRole {
			read(b.Family, b.Words)
		}
	}
	if zeros > 0 {
		points = append(points, point{0, zeros})
	}
	r.points = points
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.value, b.value) })
	total := uint64(0)
	for i := range points {
		total = sparse.Plus(total, points[i].count)
	}
	d.Quantiles = d.Quantiles[:0]
	at, seen := 0, uint64(0)
	for _, q := range sketch.Quantiles {
		if total == 0 {
			d.Quantiles = append(d.Quantiles, math.NaN())
			continue
		}
		rank := max(uint64(math.Ceil(q*float64(total))), 1)
		for at < len(points)-1 && seen+points[at].count < rank {
			seen += points[at].count
			at++
		}
		d.Quantiles = append(d.Quantiles, points[at].value)
	}
}
