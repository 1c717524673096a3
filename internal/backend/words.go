package backend

import (
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/sparse"
)

// The meaning of the words of each kind. Changing it changes the meaning of stored data, and
// therefore requires a new major version of every stored format.
const (
	// A counter is an integer word (a count below 2^62) and a float word (float64 bits); its
	// value is their sum.
	CounterInt   = 0
	CounterFloat = 1

	// A gauge is a float word and a word of flags. So are an info, whose value is 1 as long as
	// it holds; a state set, whose value is an integer with bit i for state i; and families of
	// other kinds with a single value and mode PerInstance. In modes other than Shared, each
	// instance has these words, and a third one with the ticket of the last Set, see
	// Backend.Tickets.
	GaugeValue  = 0
	GaugeFlags  = 1
	GaugeTicket = 2

	// Flags of a gauge. From GaugeTouch on, the bits count updates that must be noticed even if
	// they do not change the value.
	GaugeIsSet  = 1 << 0 // has been set, and not only added to
	GaugeJoined = 1 << 1 // has been set or added to; used in modes where that matters
	GaugeTouch  = 1 << 2

	// A histogram is a float word with the sum, then, unless it has exponential buckets only, a
	// count for each bucket (not cumulative), the last one for +Inf. With exponential buckets,
	// a word follows that counts the observations made by ObserveN, see Many.
	HistogramSum     = 0
	HistogramBuckets = 1

	// A summary is a count and a float word with the sum; with mode PerInstance, also a float
	// word for each quantile.
	SummaryCount     = 0
	SummarySum       = 1
	SummaryQuantiles = 2

	// Counters, histograms and summaries without a mode then have the start, see Start. After
	// it, histograms and summaries with exponential buckets have the first block of these, see
	// BucketBlock. With stripes, these words are repeated for each stripe, Family.StripeWords
	// apart, and added up. Only the first stripe has the start.
)

const lineWords = 8 // words in a cache line

// Seals mark words that no longer count because their series was moved or deleted. An update whose
// result is sealed has not counted: it is repeated on the series' present words, or revives the
// series at zero. A sealed word counts as zero. A series whose words are all sealed does not exist.
//
//	integer word   bit 63        sealed
//	               bits 0..62    count, kept below 2^62 by using the float word
//	float word     SealedFloat   sealed; a NaN that no update ever stores
//	               other bits    float64
//
// Starts are integer words. Keys of exponential buckets, snapshots and exemplars are never sealed.
const (
	SealedInt   uint64 = 1 << 63
	SealedFloat uint64 = 0x7ff8_6f74_6865_7573

	// IntLimit is the value from which on updates of a counter use the float word instead of
	// the integer word, so that an integer word never reaches its seal.
	IntLimit uint64 = 1 << 62
)

// Words returns the number of words of each series of f, or of each part, see Family.Parts. Merge
// may return more.
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

// fixed returns the number of words up to and including the start, of a family that is not like a
// gauge.
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

// StripeWords returns the distance in words from one stripe to the next. Stripes share no cache
// line.
func (f *Family) StripeWords() int { return (f.fixed() + lineWords - 1) / lineWords * lineWords }

// Classic reports whether f is a histogram with explicit bucket bounds.
func (f *Family) Classic() bool { return f.Kind == Histogram && (f.Native == nil || f.Buckets != nil) }

// Start returns the word with the time when the series began at zero, in nanoseconds since 1970, or
// 0 if unknown. A backend whose instances have words of their own may round it down to
// milliseconds. Start returns nil if there is no such word: for gauges and the like, families with
// a mode, and auxiliary families.
func (f *Family) Start(w Words) *atomic.Uint64 {
	if i := f.StartWord(); i >= 0 {
		return &w[i]
	}
	return nil
}

// StartWord returns the index of the word that Start returns, or -1.
func (f *Family) StartWord() int {
	if f.likeGauge() || f.Parts() || f.Block.Role != 0 {
		return -1
	}
	return f.fixed() - 1
}

// Many returns the word of a histogram with exponential buckets that counts the observations made
// several at a time. It is kept below IntLimit, which also limits the total count.
func (f *Family) Many(w Words) *atomic.Uint64 { return &w[f.fixed()-2] }

// BucketBlock returns the words of w that are a block of exponential buckets, see package
// internal/sparse, or nil.
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

// seal returns the seal of word i of n words of a series of f, or false if the word is never
// sealed.
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
	case stripe > 0 && i >= f.fixed()-1: // only the first stripe has a start
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
			return 0, false // padding to the cache line
		}
		return SealedInt, sparse.Sealable(i-fixed, n-fixed, f.Snapshots())
	}
	return SealedInt, true
}

func isSealed(v, seal uint64) bool {
	return v == seal || seal == SealedInt && v > seal // a late update may have added to it
}

// Snapshot reports whether word i of n words of a series of f belongs to a snapshot, which changes
// with time and not with updates.
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

// SealedAt reports whether word i of a series of f is sealed.
func (f *Family) SealedAt(w Words, i int) bool {
	seal, ok := f.seal(i, len(w))
	return ok && isSealed(w[i].Load(), seal)
}

// Seal seals the words of a series of f, and reports whether any of them was not sealed before.
func (f *Family) Seal(w Words) (counted bool) {
	for i := range w {
		if seal, ok := f.seal(i, len(w)); ok && !isSealed(w[i].Swap(seal), seal) {
			counted = true
		}
	}
	return counted
}

// Unseal resets the sealed words of a series of f to zero. Several processes may call it at once,
// and while others update the words.
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

// Forget clears the words of a part of a series of f that are never sealed, as if it had never been
// updated. The count of touches goes on, so that the part's next life has different words.
func (f *Family) Forget(w Words) {
	if f.likeGauge() {
		w[GaugeFlags].And(^uint64(GaugeTouch - 1))
		w[GaugeTicket].Store(0)
	}
}

// Sealed reports whether all words of a series of f are sealed, so that it does not exist.
func (f *Family) Sealed(w Words) bool {
	// Fast path: except in auxiliary families, the first word can be sealed, and in most series
	// it is not.
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
