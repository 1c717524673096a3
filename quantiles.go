package gotheus

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// Reading exponential buckets, and the window of a summary's quantiles.

// scratch is what reading one series needs, used again for the next.
type scratch struct {
	further []block  // the blocks of the series besides its words
	counts  []uint64 // of one stripe
	buckets []sparse.Bucket
	points  []point
	native  expo.Native
	touched uint64 // of no meaning, see touch
}

// point is how often a value was observed.
type point struct {
	value float64
	count uint64
}

// readHistogram reads living words. The count is derived from the buckets, so that the two always
// agree. Buckets are read again, a bounded number of times, until they have not changed meanwhile, so
// that the sum differs from them by no more than what was being observed during one reading.
func (p *scratch) readHistogram(d *distribution, f *backend.Family, w backend.Words) {
	d.Start, d.Native, d.Exemplars, d.Quantiles = 0, nil, nil, d.Quantiles[:0]
	n := 0
	if f.Classic() {
		n = len(f.Buckets) + 1
	}
	d.Buckets = slices.Grow(d.Buckets[:0], n)[:n]
	if f.Stripes != 0 {
		p.readStripes(d, f, w)
		return
	}
	for range 4 {
		before := w[backend.HistogramSum].Load()
		d.Count = 0
		for i := range d.Buckets {
			d.Count += loadInt(&w[backend.HistogramBuckets+i])
			d.Buckets[i] = d.Count
		}
		if f.Native != nil {
			// Later than those with bounds, in which an observation is counted later: so these cannot be more.
			d.Native = &p.native
			d.Count = p.readNative(f, w)
		}
		d.Sum = loadFloat(&w[backend.HistogramSum])
		if before == w[backend.HistogramSum].Load() {
			break
		}
	}
	if n > 0 {
		d.Buckets = d.Buckets[:n-1] // the last one is the count
	}
	if f.Native != nil {
		for i := range d.Buckets { // those of which a deletion has taken one half only
			d.Buckets[i] = min(d.Buckets[i], d.Count)
		}
	}
}

// readStripes is readHistogram for one with stripes, each of which is read like a histogram of its own.
func (p *scratch) readStripes(d *distribution, f *backend.Family, w backend.Words) {
	clear(d.Buckets)
	d.Count, d.Sum = 0, 0
	p.counts = slices.Grow(p.counts[:0], len(d.Buckets))[:len(d.Buckets)]
	for each := f.StripeWords(); len(w) > 0; w = w[each:] {
		sum := 0.0
		for range 4 {
			before := w[backend.HistogramSum].Load()
			for i := range p.counts {
				p.counts[i] = loadInt(&w[backend.HistogramBuckets+i])
			}
			sum = loadFloat(&w[backend.HistogramSum])
			if before == w[backend.HistogramSum].Load() {
				break
			}
		}
		d.Sum += sum
		for i, n := range p.counts {
			d.Buckets[i] += n
		}
	}
	for i, n := range d.Buckets {
		d.Count += n
		d.Buckets[i] = d.Count
	}
	d.Buckets = d.Buckets[:len(d.Buckets)-1] // the last one is the count
}

// readNative reads the exponential buckets of a series into p.native and returns their sum. They are shown at the
// resolution of the coarsest block, or a still coarser one if they are too many for a page: the result depends
// on nothing but the words.
func (p *scratch) readNative(f *backend.Family, w backend.Words) (count uint64) {
	m, coarse, zeros := f.PerDoubling(), uint64(f.Shift()), uint64(0)
	list := p.buckets[:0]
	read := func(f *backend.Family, w backend.Words) {
		b := viewBlock(f, w)
		had := len(list)
		more := uint64(0)
		list, more = b.Append(list)
		if zeros += more; more > 0 || len(list) > had {
			coarse = max(coarse, b.Coarse())
		}
	}
	read(f, w)
	for _, b := range p.further {
		if b.family.Block.Role == backend.BucketRole {
			read(b.family, b.words)
		}
	}
	p.buckets = list
	list, more := sparse.Coarsen(list, m, coarse)
	zeros += more
	for len(list) > int(f.Native.MaxBuckets) {
		coarse++
		list, more = sparse.Coarsen(list, m, coarse)
		zeros += more
	}
	n := &p.native
	n.Schema = int32(max(f.Native.Schema, 0)) - int32(min(coarse, uint64(sparse.CoarsestShift(m))))
	n.ZeroThreshold = max(f.Native.ZeroThreshold, sparse.ZeroThreshold(m, coarse))
	n.Positive, n.Negative, n.Exemplars = n.Positive[:0], n.Negative[:0], nil
	// More than the limit is not counted here: what would exceed it was put there by others.
	n.ZeroCount = min(zeros, backend.IntLimit)
	count = n.ZeroCount
	for _, b := range list {
		if b.Count > backend.IntLimit-count {
			continue
		}
		count += b.Count
		if to := &n.Positive; b.Negative {
			n.Negative = append(n.Negative, expo.NativeBucket{Index: b.Index, Count: b.Count})
		} else {
			*to = append(*to, expo.NativeBucket{Index: b.Index, Count: b.Count})
		}
	}
	slices.Reverse(n.Negative)
	return count
}

// readQuantiles reads the quantiles of a summary over the window that ends in the epoch now; 0 says
// that there is no telling, and everything counts. Each block is read at its own resolution: if no
// observation is shown further from its value than the error, no quantile is.
func (p *scratch) readQuantiles(d *distribution, f *backend.Family, w backend.Words, now uint64) {
	sketch, m := f.Sketch, f.PerDoubling()
	scale := sparse.ScaleOf(m)
	points, zeros := p.points[:0], uint64(0)
	read := func(f *backend.Family, w backend.Words) {
		b := viewBlock(f, w)
		var list []sparse.Bucket
		var more uint64
		if now > 0 {
			list, more = b.AppendSince(p.buckets[:0], oldestOf(sketch, now), now)
		} else {
			list, more = b.Append(p.buckets[:0])
		}
		p.buckets = list
		zeros += more
		if coarse := b.Coarse(); coarse > uint64(b.Shift) {
			list, more = sparse.Coarsen(list, m, coarse)
			zeros += more
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
	for _, b := range p.further {
		if b.family.Block.Role == backend.BucketRole {
			read(b.family, b.words)
		}
	}
	if zeros > 0 {
		points = append(points, point{0, zeros})
	}
	p.points = points
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.value, b.value) })
	total := uint64(0)
	for i := range points {
		total += points[i].count
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

// oldestOf returns the first epoch of the window that ends in an epoch.
func oldestOf(s *backend.Sketch, now uint64) uint64 {
	return max(now, uint64(s.Slots)) - uint64(s.Slots) + 1
}

// openWindow lets the window of a block that the series begins to count in begin, or go on.
func (f *family) openWindow(b *sparse.Block) {
	if f.def.Sketch == nil {
		return
	}
	if epoch := f.def.Sketch.Epoch(f.reg.Now()); epoch > 0 {
		b.Advance(epoch)
	}
}

// advance takes the snapshots that are due, in the words that this process counts in. What Walk has
// are copies where a store is between processes, and may lack something elsewhere; and whoever else
// counts in a series does the same.
func (r *Registry) advance(now time.Time) {
	for _, f := range r.allFamilies() {
		if f.def.Sketch == nil {
			continue
		}
		epoch := f.def.Sketch.Epoch(now)
		if epoch == 0 || f.epoch.Swap(epoch) == epoch {
			continue
		}
		f.mu.Lock()
		list := slices.Collect(f.all())
		f.mu.Unlock()
		for _, m := range list {
			r.moveMu.Lock()
			blocks := append(slices.Clone(further(m)), block{f.def, m.base().words()})
			r.moveMu.Unlock()
			for i := range blocks {
				b := viewBlock(blocks[i].family, blocks[i].words)
				b.Advance(epoch)
			}
		}
	}
}

// everywhere returns the blocks of m besides its words, also those that others have made where these share words with it.
// The registry's moveMu is held.
func (s *series) everywhere(m instrument) []block {
	f, home := s.fam(), s.spot.Load().home
	if home == nil || f.scale == nil || isRemote(home) { // what Walk has there is a copy, with what this process has
		return further(m)
	}
	all := slices.Clone(further(m)) // Walk may not have them yet
	labels := s.stored()
	for _, g := range named(home.Walk(), f.def.Name) {
		if g.Family.Aids(f.def) {
			if i, ok := slices.BinarySearchFunc(g.Series, labels, func(s *backend.Series, labels string) int { return cmp.Compare(s.Labels, labels) }); ok && !has(all, g.Series[i].Words) {
				all = append(all, block{g.Family, g.Series[i].Words})
			}
		}
	}
	return all
}

// has reports whether one of the blocks has the words w.
func has(all []block, w backend.Words) bool {
	return slices.ContainsFunc(all, func(b block) bool { return len(w) > 0 && &b.words[0] == &w[0] })
}
