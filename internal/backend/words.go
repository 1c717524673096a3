package backend

import (
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/sparse"
)

// What the words of each kind mean. Changing any of this changes the meaning of stored data, hence
// the major version of every stored format.
const (
	// A counter is an integer word (a count below 2^62) and a float word (float64 bits); its value
	// is their sum.
	CounterInt   = 0
	CounterFloat = 1

	// A gauge is a float word and a word of flags. So are an info, whose value is 1 as long as it holds, a
	// state set, whose value is an integer with bit i for state i, and what has mode PerInstance and a single
	// value. In modes other than Shared, it has these for each
	// instance, and a third word with the ticket of the last Set, see Backend.Tickets.
	GaugeValue  = 0
	GaugeFlags  = 1
	GaugeTicket = 2

	// Flags of a gauge. The bits from GaugeTouch on count updates where they are to be noticed even if
	// they do not change the value.
	GaugeIsSet  = 1 << 0 // has been set, and not only added to
	GaugeJoined = 1 << 1 // has been set or added to, where that makes a difference
	GaugeTouch  = 1 << 2

	// A histogram is a float word with the sum, then, unless it has exponential buckets alone, a count for
	// each bucket (not cumulative), the last one being the +Inf bucket. One with exponential buckets
	// then has a word for what was counted by many at once, which limits them, see Many.
	HistogramSum     = 0
	HistogramBuckets = 1

	// A summary is a count and a float word with the sum; with mode PerInstance, then a float word for each
	// quantile.
	SummaryCount     = 0
	SummarySum       = 1
	SummaryQuantiles = 2

	// Counters, histograms and summaries that have no mode then have the start, see Start. Behind that, histograms
	// and summaries with exponential buckets have the first block of them, see BucketBlock.
	//
	// What has stripes has the words of one without, once for each stripe, at a distance of Family.StripeWords. They
	// add up; the start is in the first one.
)

const lineWords = 8 // words in a cache line

// Seals mark words that no longer count because their series moved elsewhere or was deleted. An update that
// finds a seal in its own result has not been counted; it goes to where the series is now, or brings it
// back from zero. A sealed word counts as zero; a series whose words are all sealed does not exist.
//
//	integer word   bit 63        sealed
//	               bits 0..62    count, kept below 2^62 by diverting to the float word
//	float word     SealedFloat   sealed; a NaN that no update ever stores
//	               other bits    float64
//
// Starts are integer words. Keys of exponential buckets, snapshots and exemplars are never sealed.
const (
	SealedInt   uint64 = 1 << 63
	SealedFloat uint64 = 0x7ff8_6f74_6865_7573

	// IntLimit is the value from which on a counter's integer word takes no further Add: what
	// comes then goes to the float word, so that an integer word never runs into its seal.
	IntLimit uint64 = 1 << 62
)

// Words returns how many words each series of f has, or each part of a series, see Family.Parts. Words that
// Merge returns can be more.
func (f *Family) Words() int {
	switch {
	case f.Block.Role == BucketRole:
		return sparse.Words(int(f.Block.Size), f.Snapshots())
	case f.Block.Role == ExemplarRole:
		return f.ExemplarSlots() * (exemplarHead + int(f.Block.Size))
	case f.likeGauge() && f.Parts():
		return 3
	case f.likeGauge():
		return 2
	case f.Stripes != 0:
		return f.Stripes * f.StripeWords()
	case f.sparse():
		return f.fixed() + sparse.Words(FirstBlock, f.Snapshots())
	}
	return f.fixed()
}

// fixed returns the number of words up to the start, of a family that is not like a gauge.
func (f *Family) fixed() int {
	n := 2 // of counters
	switch {
	case f.Kind == Histogram && f.Classic():
		n = HistogramBuckets + len(f.Buckets) + 1
	case f.Kind == Histogram:
		n = HistogramBuckets
	case f.Kind == Summary && f.Parts():
		n = SummaryQuantiles + len(f.Buckets)
	}
	if f.Native != nil {
		n++
	}
	if f.Parts() {
		return n // there is no start
	}
	return n + 1
}

// StripeWords returns at what distance the words of a stripe follow those of the one before, if f has stripes: they
// share no cache line.
func (f *Family) StripeWords() int { return (f.fixed() + lineWords - 1) / lineWords * lineWords }

// Classic reports whether f is a histogram with buckets at given bounds.
func (f *Family) Classic() bool { return f.Kind == Histogram && (f.Native == nil || f.Buckets != nil) }

// Start returns the word with the time when the series began at zero, in nanoseconds since 1970; 0 says that
// it is not known. A backend whose instances have words of their own may round it down to ms. It is nil if there is none:
// for gauges and the like, all that have a mode, and in auxiliary families.
func (f *Family) Start(w Words) *atomic.Uint64 {
	if f.likeGauge() || f.Parts() || f.Block.Role != 0 {
		return nil
	}
	return &w[f.fixed()-1]
}

// Many returns the word of a histogram with exponential buckets that counts the observations that came several at
// a time. It is kept below IntLimit, and with it the count of all.
func (f *Family) Many(w Words) *atomic.Uint64 { return &w[f.fixed()-2] }

// BucketBlock returns the words of w that are a block of exponential buckets, as package internal/sparse has
// it; nil if there are none.
func (f *Family) BucketBlock(w Words) Words {
	switch {
	case f.Block.Role == BucketRole:
		return w
	case f.Block.Role == 0 && f.sparse():
		return w[f.fixed():]
	}
	return nil
}

// StateBits returns which states of a state set are on, for any value: bit i is that of state i.
func StateBits(v float64) uint64 {
	if !(v >= 0 && v < 1<<MaxStates) {
		return 0
	}
	return uint64(math.Trunc(v))
}

// seal returns the seal of word i of n words of a series of f, and false for words that are never sealed.
func (f *Family) seal(i, n int) (uint64, bool) {
	stripe := 0
	if f.Stripes != 0 {
		stripe, i = i/f.StripeWords(), i%f.StripeWords()
	}
	float := false
	switch {
	case f.Block.Role == BucketRole:
		return SealedInt, sparse.Sealable(i, n, f.Snapshots())
	case f.Block.Role != 0:
		return 0, false
	case f.likeGauge():
		return SealedFloat, i == GaugeValue
	case stripe > 0 && i >= f.fixed()-1: // there is but one start
		return 0, false
	case f.Kind == Counter:
		float = i == CounterFloat
	case f.Kind == Histogram:
		float = i == HistogramSum
	case f.Kind == Summary:
		float = i == SummarySum || f.Parts() && i >= SummaryQuantiles
	}
	if float {
		return SealedFloat, true
	}
	if fixed := f.fixed(); i >= fixed {
		if f.Stripes != 0 {
			return 0, false // fills the cache line
		}
		return SealedInt, sparse.Sealable(i-fixed, n-fixed, f.Snapshots())
	}
	return SealedInt, true
}

func isSealed(v, seal uint64) bool {
	return v == seal || seal == SealedInt && v > seal // an update that came too late has added to it
}

// Snapshot reports whether word i of n words of a series of f belongs to a snapshot, which changes with the time and
// not with updates.
func (f *Family) Snapshot(i, n int) bool {
	switch {
	case f.Sketch == nil:
		return false
	case f.Block.Role == BucketRole:
		return sparse.Snapshot(i, n, f.Snapshots())
	}
	fixed := f.fixed()
	return f.Block.Role == 0 && i >= fixed && sparse.Snapshot(i-fixed, n-fixed, f.Snapshots())
}

// SealedAt reports whether one word of a series of f is sealed.
func (f *Family) SealedAt(w Words, i int) bool {
	seal, ok := f.seal(i, len(w))
	return ok && isSealed(w[i].Load(), seal)
}

// Seal seals the words of a series of f and reports whether any of them counted until then.
func (f *Family) Seal(w Words) (counted bool) {
	for i := range w {
		if seal, ok := f.seal(i, len(w)); ok && !isSealed(w[i].Swap(seal), seal) {
			counted = true
		}
	}
	return counted
}

// Unseal makes the sealed words of a series of f count again, from zero. It may be called by several
// processes at once, and while others update the words.
func (f *Family) Unseal(w Words) {
	for i := range w {
		seal, ok := f.seal(i, len(w))
		for v := w[i].Load(); ok && isSealed(v, seal); v = w[i].Load() {
			if w[i].CompareAndSwap(v, 0) {
				break
			}
		}
	}
}

// Forget clears the words of a part of a series of f that are never sealed, as if it had never been updated. What
// they say about when it was touched goes on, so that another life has other words.
func (f *Family) Forget(w Words) {
	if f.likeGauge() {
		w[GaugeFlags].And(^uint64(GaugeTouch - 1))
		w[GaugeTicket].Store(0)
	}
}

// Sealed reports whether all words of a series of f are sealed: it does not exist.
func (f *Family) Sealed(w Words) bool {
	// The first word can be sealed in all but auxiliary families, and most series are not.
	if len(w) > 0 && f.Block.Role == 0 { // a damaged file may have a series without words
		if v := w[0].Load(); v < SealedInt && v != SealedFloat {
			return false
		}
	}
	return f.allSealed(w)
}

func (f *Family) allSealed(w Words) bool {
	for i := range w {
		if seal, ok := f.seal(i, len(w)); ok && !isSealed(w[i].Load(), seal) {
			return false
		}
	}
	return true
}
