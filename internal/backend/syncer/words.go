package syncer

import (
	"math"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Stored words of a shared gauge. Its value is the base of the Set with the highest stamp plus
// everything that all instances have ever added. These words can therefore be merged in any order
// and any number of times, like all others.
const (
	gaugeAdded = 0 // float: everything this instance has ever added
	gaugeBase  = 1 // float: value of the last Set minus all additions before it
	gaugeStamp = 2 // of that Set; 0: none
	gaugeWords = 3
)

// isFloat reports whether a stored word holds float64 bits, which are stored byte-reversed.
func (f *family) isFloat(i int) bool {
	if f.def != nil && f.def.Stripes != 0 {
		i %= f.def.StripeWords()
	}
	switch {
	case f.gauge:
		return i == backend.GaugeValue || i == gaugeBase && f.shared
	case f.kind == backend.Counter:
		return i == backend.CounterFloat
	case f.kind == backend.Histogram:
		return i == backend.HistogramSum
	case f.kind == backend.Summary:
		return i == backend.SummarySum
	}
	return false
}

// fits reports whether a series can have n words. The number of buckets of a block is a power of
// two, at least that of a new block.
func (f *family) fits(n uint64) bool {
	if f.def == nil || n == uint64(f.stored) {
		return true
	}
	if f.exemplars || !f.blocks {
		return false
	}
	buckets := uint64(backend.FirstBlock)
	if f.def.Block.Role == backend.BucketRole {
		buckets = uint64(f.def.Block.Size)
	}
	// Two buckets take three words, and two more for each snapshot.
	more := n - uint64(f.stored)
	pair := uint64(3 + 2*f.def.Snapshots())
	if n < uint64(f.stored) || more%pair != 0 {
		return false
	}
	buckets += 2 * (more / pair)
	return buckets&(buckets-1) == 0 && buckets <= maxBuckets
}

// maxBuckets is far more than a series has when all its blocks are merged.
const maxBuckets = 1 << 22

// isCount reports whether a stored word of a family without blocks is a count.
func (f *family) isCount(i int) bool {
	switch f.kind {
	case backend.Counter:
		return i == backend.CounterInt
	case backend.Histogram:
		return i >= backend.HistogramBuckets && i <= backend.HistogramBuckets+len(f.def.Buckets)
	case backend.Summary:
		return i == backend.SummaryCount
	}
	return false
}

// countLimit is the limit of a count of a family without blocks.
func (f *family) countLimit() uint64 {
	if f.kind == backend.Histogram { // leaves room for the total count
		return backend.IntLimit / uint64(len(f.def.Buckets)+1)
	}
	return backend.IntLimit
}

// addCounts returns a sum capped at limit.
func addCounts(a, b, limit uint64) uint64 {
	if a == 0 {
		return b
	}
	return max(a, min(a+b, limit))
}

func addFloats(a, b uint64) uint64 {
	switch { // also preserves -0
	case a == 0:
		return b
	case b == 0:
		return a
	}
	return math.Float64bits(math.Float64frombits(a) + math.Float64frombits(b))
}

// merge adds src, another contributor's words of a series, to dst. It returns dst or, if blocks
// needed more room, larger words. Families with parts are not merged: pages show each instance's
// part.
func (f *family) merge(dst, src []uint64) []uint64 {
	switch {
	case f.blocks:
		return plainWords(f.def.Merge(liveWords(dst), liveWords(src)))
	case f.def.Stripes != 0:
		copy(dst, plainWords(f.def.Merge(liveWords(dst), liveWords(src))))
	case f.shared:
		dst[gaugeAdded] = addFloats(dst[gaugeAdded], src[gaugeAdded])
		if src[gaugeStamp] > dst[gaugeStamp] {
			dst[gaugeBase], dst[gaugeStamp] = src[gaugeBase], src[gaugeStamp]
		}
	case f.kind == backend.Counter:
		n := dst[backend.CounterInt] + src[backend.CounterInt]
		if n >= backend.IntLimit { // as in an update
			dst[backend.CounterFloat] = addFloats(dst[backend.CounterFloat], math.Float64bits(float64(src[backend.CounterInt])))
			n = dst[backend.CounterInt]
		}
		dst[backend.CounterInt] = n
		dst[backend.CounterFloat] = addFloats(dst[backend.CounterFloat], src[backend.CounterFloat])
		mergeStarts(dst[2:], src[2:])
	default:
		limit := f.countLimit()
		for i, v := range src {
			switch {
			case f.isFloat(i):
				dst[i] = addFloats(dst[i], v)
			case f.isCount(i):
				dst[i] = addCounts(dst[i], v, limit)
			default:
				mergeStarts(dst[i:i+1], src[i:i+1])
			}
		}
	}
	return dst
}

func liveWords(w []uint64) backend.Words {
	if w == nil {
		return nil
	}
	live := make(backend.Words, len(w))
	for i, v := range w {
		live[i].Store(v)
	}
	return live
}

func plainWords(w backend.Words) []uint64 {
	words := make([]uint64, len(w))
	for i := range w {
		words[i] = w[i].Load()
	}
	return words
}

// mergeStarts keeps the earlier of two starts; zero means not known.
func mergeStarts(dst, src []uint64) {
	for i, v := range src {
		if v != 0 && (dst[i] == 0 || v < dst[i]) {
			dst[i] = v
		}
	}
}

// show stores merged words in the words that pages read.
func (f *family) show(dst backend.Words, merged []uint64) {
	if f.shared {
		// The stamp is included so that a Set to the same value is noticed.
		dst[backend.GaugeFlags].Store(backend.GaugeIsSet | merged[gaugeStamp]*backend.GaugeTouch)
		dst[backend.GaugeValue].Store(plain(addFloats(merged[gaugeAdded], merged[gaugeBase])))
		return
	}
	for i := range dst {
		v := merged[i]
		if v != 0 && f.isFloat(i) {
			v = plain(v)
		}
		if dst[i].Load() != v { // a Store is ten times as expensive
			dst[i].Store(v)
		}
	}
}

// plain returns float bits that cannot be mistaken for a seal.
func plain(v uint64) uint64 {
	if f := math.Float64frombits(v); f != f {
		return 0x7ff8000000000001
	}
	return v
}

// read copies the words that an instrument updates, with the start as stored; sealed words become
// zero.
func (f *family) read(dst []uint64, w backend.Words) {
	for range 4 {
		for i := range w {
			if f.blocks { // last words first, so that a count that was read has its key
				i = len(w) - 1 - i
			}
			dst[i] = w[i].Load()
			if dst[i] >= backend.SealedFloat && f.def.SealedAt(w, i) {
				dst[i] = 0
			}
		}
		if f.start >= 0 {
			dst[f.start] -= dst[f.start] % startUnit
		}
		switch {
		case f.exemplars && !same(dst, w): // an exemplar was written meanwhile
		case !f.sameSnapshots(dst, w): // a snapshot was taken meanwhile
		default:
			return
		}
	}
	if f.exemplars {
		clear(dst) // exemplars are being written all the time
	}
}

// ignoreLater invalidates snapshots with epochs in the future: merged, they would displace valid
// ones. Clocks of hosts may differ by one slot.
func (f *family) ignoreLater(words []uint64, now time.Time) {
	from, to := f.def.EpochWords()
	latest := f.def.Sketch.Epoch(now) + 1
	for i, e := range words[from:to] {
		if e > latest {
			words[from+i] = backend.IncompleteEpoch
		}
	}
}

// sameSnapshots reports whether the snapshots of a window are unchanged since words were read.
func (f *family) sameSnapshots(words []uint64, w backend.Words) bool {
	for i, snapshot := range f.snapshots {
		if snapshot && w[i].Load() != words[i] && !f.def.SealedAt(w, i) {
			return false
		}
	}
	return true
}

func same(words []uint64, w backend.Words) bool {
	if len(words) != len(w) {
		return false
	}
	for i := range w {
		if w[i].Load() != words[i] {
			return false
		}
	}
	return true
}

// sharedGauge is the state of a shared gauge that this process updates. The word itself holds only
// a value. Its flag says whether it was set since the last sample: Set raises the flag before it
// changes the value, so a value read while the flag is down comes from additions only. A Set that
// has raised the flag but not stored its value yet takes effect in two steps, both within the call.
type sharedGauge struct {
	added     float64 // until the last Set
	ref       float64 // value of the word at that time
	base      float64
	stamp     uint64
	published float64 // sum of additions as of the last sample
}

// sample reads the gauge. If it was set, sample gives the Set a stamp; others is the known sum of
// what other instances have added.
func (g *sharedGauge) sample(w backend.Words, dst []uint64, others func() float64, stamp func() uint64) {
	v, flags := w[backend.GaugeValue].Load(), w[backend.GaugeFlags].Load()
	if v == backend.SealedFloat {
		v = 0
	}
	value := math.Float64frombits(v)
	added := g.sum(value)
	if finite := !math.IsNaN(added) && !math.IsInf(added, 0); flags&backend.GaugeIsSet != 0 || !finite && !(math.IsNaN(g.ref) || math.IsInf(g.ref, 0)) {
		w[backend.GaugeFlags].And(^uint64(backend.GaugeIsSet))
		if v = w[backend.GaugeValue].Load(); v == backend.SealedFloat {
			v = 0
		}
		value = math.Float64frombits(v)
		g.added, g.ref = g.published, value
		g.base = value
		if sum := others() + g.added; sum != 0 {
			g.base -= sum
		}
		g.stamp = stamp()
		added = g.added
	} else if !finite {
		added = g.added
	}
	g.published = added
	g.write(dst)
}

// sum returns everything added so far, if the word has this value and was not set since the last
// sample.
func (g *sharedGauge) sum(value float64) float64 {
	if g.added == 0 && g.ref == 0 {
		return value
	}
	return g.added + (value - g.ref)
}

// write stores the last sample in dst.
func (g *sharedGauge) write(dst []uint64) {
	dst[gaugeAdded] = math.Float64bits(g.published)
	dst[gaugeBase] = math.Float64bits(g.base)
	dst[gaugeStamp] = g.stamp
}

// wasSet reports whether there was a Set since the last sample.
func wasSet(w backend.Words) bool { return w[backend.GaugeFlags].Load()&backend.GaugeIsSet != 0 }
