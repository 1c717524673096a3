package backend

import (
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/exact"
	"github.com/gotheus/gotheus/internal/sparse"
)

// Merge adds the words of a series of f, which may be live, to those of another, which nobody else
// uses, and returns the result. It is for backends whose instances have words of their own. to must
// have f.Words words, initially zero, or be a result of Merge. Counts and sums are added, the
// earliest start is kept, exponential buckets are merged, and the newest exemplars are kept. If the
// merged buckets have no room in to, the result is larger; readers derive the size from the length.
// Sealed words count as zero.
//
// Merge panics if f is like a gauge or has a mode, since the result would depend on which instances
// are alive.
func (f *Family) Merge(to, from Words) Words {
	if f.likeGauge() || f.Parts() {
		panic("backend: what has a mode does not merge")
	}
	if f.Block.Role == ExemplarRole {
		f.MergeExemplars(to, from)
		return to
	}
	if block := f.BucketBlock(from); block != nil {
		merged := sparse.Merge(f.BucketBlock(to), block, f.PerDoubling(), f.Shift(), f.Snapshots())
		switch {
		case f.Block.Role == BucketRole:
			return merged
		case len(merged) != len(f.BucketBlock(to)):
			fixed := f.fixed()
			larger := make(Words, fixed+len(merged))
			copyWords(larger, to[:fixed])
			copyWords(larger[fixed:], merged)
			to = larger
		}
	}
	for i := range max(f.Stripes, 1) {
		at := i * f.StripeWords()
		f.addUp(to[at:], from[at:])
	}
	w, start := f.Start(to), loadInt(f.Start(from))
	if old := loadInt(w); old == 0 || start != 0 && start < old {
		w.Store(start)
	}
	return to
}

// addUp adds the counts and sums of one stripe to those of another.
func (f *Family) addUp(to, from Words) {
	add := func(i int, limit uint64) {
		n := loadInt(&to[i])
		to[i].Store(max(n, min(n+loadInt(&from[i]), limit)))
	}
	addFloat := func(i int, more float64) {
		to[i].Store(math.Float64bits(loadFloat(&to[i]) + more))
	}
	switch f.Kind {
	case Counter:
		// Above IntLimit, use the float word, as updates do.
		if n := loadInt(&from[CounterInt]); loadInt(&to[CounterInt])+n >= IntLimit {
			addFloat(CounterFloat, float64(n))
		} else {
			to[CounterInt].Store(loadInt(&to[CounterInt]) + n)
		}
		addFloat(CounterFloat, loadFloat(&from[CounterFloat]))
	case Histogram:
		end := f.fixed() - 1
		if f.Native != nil {
			end--
			add(end, IntLimit)
		}
		for i := HistogramBuckets; i < end; i++ {
			add(i, f.BucketLimit())
		}
		addFloat(HistogramSum, loadFloat(&from[HistogramSum]))
	case Summary:
		add(SummaryCount, IntLimit)
		addFloat(SummarySum, loadFloat(&from[SummarySum]))
	}
}

// BucketLimit is the maximum of a histogram bucket's word, so that the count, which is the sum of
// all, does not overflow. With exponential buckets, Many limits all of them together.
func (f *Family) BucketLimit() uint64 {
	if f.Native != nil {
		return IntLimit
	}
	return IntLimit / uint64((len(f.Buckets)+1)*max(f.Stripes, 1))
}

// Subtract subtracts counted, a former state of the words w that is counted elsewhere by now, from
// w, which may be live. Starts, exemplars and the coarseness of exponential buckets stay; sealed
// words are not changed. Like Merge, it panics if f is like a gauge or has a mode.
func (f *Family) Subtract(w, counted Words) {
	if f.likeGauge() || f.Parts() {
		panic("backend: what has a mode does not merge")
	}
	block := f.BucketBlock(w)
	fixed := len(w) - len(block)
	if block != nil {
		sparse.Subtract(block, counted[fixed:], f.PerDoubling(), f.Shift(), f.Snapshots())
	}
	start := f.Start(w)
	for i := range fixed {
		seal, ok := f.seal(i, len(w))
		if !ok || &w[i] == start {
			continue
		}
		for {
			old := w[i].Load()
			next := old - min(old, loadInt(&counted[i]))
			if seal == SealedFloat {
				next = math.Float64bits(exact.SubUp(math.Float64frombits(old), loadFloat(&counted[i])))
				if next == SealedFloat { // of infinities
					next = math.Float64bits(math.NaN())
				}
			}
			if isSealed(old, seal) || w[i].CompareAndSwap(old, next) {
				break
			}
		}
	}
}

// MergeExemplars is Merge for an auxiliary family with ExemplarRole. It keeps the newer exemplar of
// each slot, but skips invalid ones, so that they do not hide valid ones. The error is that of the
// last one skipped.
func (f *Family) MergeExemplars(to, from Words) (err error) {
	size := exemplarHead + int(f.Block.Size)
	for slot := range len(to) / size {
		at := slot * size
		if int64(from[at+exemplarTime].Load()) <= int64(to[at+exemplarTime].Load()) {
			continue
		}
		e, _, ok := f.readExemplar(from, slot)
		if !ok {
			continue
		}
		if wrong := e.Check(); wrong != nil {
			err = wrong
			continue
		}
		copyWords(to[at:at+size], from[at:at+size])
	}
	return err
}

func copyWords(to, from Words) {
	for i := range from {
		to[i].Store(from[i].Load())
	}
}

func loadInt(w *atomic.Uint64) uint64 {
	if n := w.Load(); n < SealedInt {
		return n
	}
	return 0
}

func loadFloat(w *atomic.Uint64) float64 {
	if bits := w.Load(); bits != SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}
