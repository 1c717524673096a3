package series

import (
	"iter"
	"math"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/word"
)

// The Carry functions move the contents of the words that a series leaves into its new words. Each
// old word is sealed before its contents are added, so that an update counts in exactly one of the
// two. If the new words are sealed because the series is being deleted, the contents are dropped:
// they belong to the deleted series.

// CarryCounter moves the contents of a counter.
func (f *Family) CarryCounter(to, from backend.Words) {
	for to, from := range f.eachStripe(to, from) {
		n, w := word.SealInt(&from[backend.CounterInt]), &to[backend.CounterInt]
		for n > 0 {
			old := w.Load()
			if old >= backend.SealedInt {
				break
			}
			if old+n >= backend.IntLimit {
				word.AddFloat(&to[backend.CounterFloat], float64(n))
				break
			}
			if w.CompareAndSwap(old, old+n) {
				break
			}
		}
		carryFloat(to, from, backend.CounterFloat)
	}
	f.carryStart(to, from)
}

// CarryHistogram moves the classic buckets and the sum of a histogram.
func (f *Family) CarryHistogram(to, from backend.Words) {
	limit := f.Def.BucketLimit()
	for to, from := range f.eachStripe(to, from) {
		if f.Def.Classic() {
			for i := backend.HistogramBuckets; i <= backend.HistogramBuckets+len(f.Def.Buckets); i++ {
				word.CarryCount(&to[i], word.SealInt(&from[i]), limit)
			}
		}
		carryFloat(to, from, backend.HistogramSum)
	}
	if f.Def.Native != nil {
		word.SealInt(f.Def.Many(from)) // Exponents.carry counts these observations again
	}
	f.carryStart(to, from)
}

// CarrySummary moves the count and the sum of a summary.
func (f *Family) CarrySummary(to, from backend.Words) {
	word.CarryCount(&to[backend.SummaryCount], word.SealInt(&from[backend.SummaryCount]), backend.IntLimit)
	carryFloat(to, from, backend.SummarySum)
	f.carryStart(to, from)
}

// CarryGauge moves the value of a gauge. It returns false if the series was deleted before. Whether
// this process has updated it is left to the caller.
func (f *Family) CarryGauge(to, from backend.Words) bool {
	bits := from[backend.GaugeValue].Swap(backend.SealedFloat)
	if bits == backend.SealedFloat { // the series was deleted
		return false
	}
	v, flags := math.Float64frombits(bits), from[backend.GaugeFlags].Load()
	to[backend.GaugeFlags].Or(flags & backend.GaugeIsSet)
	if w := &to[backend.GaugeValue]; flags&backend.GaugeIsSet != 0 {
		// Not a plain store, which could overwrite a seal.
		for old := w.Load(); old != backend.SealedFloat && !w.CompareAndSwap(old, word.Bits(v)); {
			old = w.Load()
		}
	} else if v != 0 {
		word.AddFloat(&to[backend.GaugeValue], v)
	}
	return true
}

func carryFloat(to, from backend.Words, i int) {
	if v := word.SealFloat(&from[i]); v != 0 {
		word.AddFloat(&to[i], v)
	}
}

// carryStart copies the start time of the old words to the new ones, unless they have one already.
// The compare-and-swap keeps a start that another process has stored in the meantime.
func (f *Family) carryStart(to, from backend.Words) {
	if start := word.SealInt(f.Def.Start(from)); start != 0 {
		f.Def.Start(to).CompareAndSwap(0, start)
	}
}

// eachStripe ranges over the stripes of two series of f in parallel. A series without stripes has a
// single one.
func (f *Family) eachStripe(to, from backend.Words) iter.Seq2[backend.Words, backend.Words] {
	return func(yield func(to, from backend.Words) bool) {
		each := f.Def.StripeWords()
		for i := range max(f.Def.Stripes, 1) {
			if !yield(to[i*each:], from[i*each:]) {
				return
			}
		}
	}
}
