package gotheus

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/bounds"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Histogram counts observations in buckets and adds them up. All methods may be called
// concurrently; updates never block, fail or allocate. Histograms come from [NewHistogram],
// [TryNew] or a [Vec].
type Histogram struct {
	cells     atomic.Pointer[backend.Series] // its words, see backend.HistogramSum
	observing *observing                     // the family's
	exponents series.Exponents
	series    series.Series
}

// observing says how the histograms of a family, which share it, count observations.
type observing struct {
	buckets bounds.Buckets // the classic ones
	classic bool           // there are classic buckets, with bounds
	native  bool           // there are exponential buckets
	striped bool
	plain   bool // nothing but classic buckets, and these have a table
}

func observingOf(f *backend.Family) *observing {
	o := &observing{classic: f.Classic(), native: f.Native != nil, striped: f.Stripes != 0}
	if o.classic {
		o.buckets = bounds.Of(f.Buckets)
	}
	o.plain = o.buckets.HasTable() && !o.native && !o.striped
	return o
}

// Observe adds an observation of v, which must be finite. Any other v is ignored, counted in
// gotheus_rejected_updates_total and logged.
func (h *Histogram) Observe(v float64) {
	// This is the common case. All calls that are not inlined come last, so that no value has
	// to be saved on the stack across them.
	c, o := h.cells.Load(), h.observing
	if !o.plain || !word.Finite(v) {
		h.observe(v)
		return
	}
	if c.Words[backend.HistogramBuckets+o.buckets.Quick(v)].Add(1) >= backend.SealedInt {
		h.observe(v) // this has not counted
		return
	}
	sum := &c.Words[backend.HistogramSum]
	old := sum.Load()
	if old == backend.SealedFloat || !sum.CompareAndSwap(old, word.Bits(math.Float64frombits(old)+v)) {
		h.addSum(c.Words, v)
	}
}

// observe handles all cases of Observe.
//
//go:noinline
func (h *Histogram) observe(v float64) {
	if !word.Finite(v) {
		h.series.Family().Reject("Histogram.Observe", v, "must be finite")
		return
	}
	words := h.words()
	native := h.observing.native
	if native {
		// The sum comes first: if the series was deleted, it is sealed, which a further
		// block of exponential buckets need not be.
		for w := &words[backend.HistogramSum]; !word.AddFloat(w, v); w = &words[backend.HistogramSum] {
			words, _ = h.elsewhere(words, w, false)
		}
		w, first := h.exponents.Quick(v)
		if w == nil || first != &words[0] || int64(w.Add(1)) < 0 {
			var ok bool
			if words, ok = h.exponents.Add((*histogramCore)(h), words, v, 1); !ok {
				return
			}
		}
	}
	for ok := h.observing.classic; ok; {
		stripe := h.stripe(words)
		w := &stripe[backend.HistogramBuckets+h.observing.buckets.Find(v)]
		if w.Add(1) < backend.SealedInt {
			if !native && !word.AddFloat(&stripe[backend.HistogramSum], v) {
				h.addSum(words, v)
			}
			return
		}
		words, ok = h.elsewhere(words, w, native)
	}
}

// words returns the words of the histogram, with all stripes.
func (h *Histogram) words() backend.Words {
	if h.observing.striped {
		return h.series.Stripes().Words
	}
	return h.cells.Load().Words
}

// stripe returns the words to add to: those of this processor's stripe, if there are stripes.
func (h *Histogram) stripe(words backend.Words) backend.Words {
	if h.observing.striped {
		return words[h.series.Stripes().Offset():]
	}
	return words
}

// addSum adds v to the sum, for an update that has counted in these words.
//
//go:noinline
func (h *Histogram) addSum(words backend.Words, v float64) {
	for ok := true; ok; {
		w := &h.stripe(words)[backend.HistogramSum]
		if word.AddFloat(w, v) {
			return
		}
		words, ok = h.elsewhere(words, w, true)
	}
}

// elsewhere returns where an update goes on that has found w, one of these words, sealed. An update
// that has counted something is over, ok being false, if the series was deleted; one that has not
// brings the series back. If the histogram has moved, its new words were published before the old
// ones were sealed.
func (h *Histogram) elsewhere(words backend.Words, w *atomic.Uint64, counted bool) (now backend.Words, ok bool) {
	if counted {
		return series.Follow((*histogramCore)(h), &words[0])
	}
	if now = h.words(); &now[0] == &words[0] {
		series.Escape((*histogramCore)(h), w)
		now = h.words()
	}
	return now, true
}

// ObserveN adds n observations of v, at the cost of one; n times v is added to the sum in one step.
// v and n times v must be finite, and n below 2^53. Otherwise the call is ignored, counted in
// gotheus_rejected_updates_total and logged. If n is 0, nothing happens.
//
// The same goes for a bucket that has no room for n more: each holds an equal share of 2^62
// observations. With exponential buckets, all buckets together hold 2^62, not counting what Observe
// has counted.
func (h *Histogram) ObserveN(v float64, n uint64) {
	if !countable(h.series.Family(), "Histogram.ObserveN", v, n) {
		return
	}
	words := h.words()
	counted := h.observing.native
	if counted {
		if words, counted = h.reserve(words, n); !counted {
			return
		}
		if words, counted = h.exponents.Add((*histogramCore)(h), words, v, n); !counted {
			return
		}
	}
	for ok := h.observing.classic; ok; {
		w := &h.stripe(words)[backend.HistogramBuckets+h.observing.buckets.Find(v)]
		switch word.AddCount(w, n, h.limit()) {
		case word.Added:
			ok = false
		case word.Full:
			h.series.Family().Reject("Histogram.ObserveN", float64(n), "the bucket has no room for that many more observations")
			return
		case word.Sealed:
			if words, ok = h.elsewhere(words, w, counted); !ok {
				return
			}
		}
	}
	h.addSum(words, v*float64(n))
}

// reserve makes sure that n more observations in exponential buckets do not make the count wrap. It
// begins an update of words, and returns where that goes on.
func (h *Histogram) reserve(words backend.Words, n uint64) (now backend.Words, ok bool) {
	for {
		w := h.series.Family().Def.Many(words)
		switch word.AddCount(w, n, backend.IntLimit) {
		case word.Added:
			return words, true
		case word.Full:
			h.series.Family().Reject("Histogram.ObserveN", float64(n), "the histogram has no room for that many more observations")
			return nil, false
		case word.Sealed:
			words, _ = h.elsewhere(words, w, false)
		}
	}
}

// ObserveExemplar observes v as Observe does, with an exemplar; see [Counter.AddExemplar]. The page
// shows the newest exemplar of each bucket or, with exponential buckets alone, those of up to ten
// values of different magnitudes.
func (h *Histogram) ObserveExemplar(v float64, labels Labels) {
	h.Observe(v)
	if !word.Finite(v) {
		return
	}
	slot := 0
	if h.observing.classic {
		slot = h.observing.buckets.Find(v)
	} else if _, exp := math.Frexp(v); exp != 0 {
		n := h.series.Family().Def.ExemplarSlots()
		slot = (exp%n + n) % n
	}
	h.series.Exemplify("Histogram.ObserveExemplar", slot, v, labels)
}

// ObserveContext observes v as Observe does, with the exemplar that RegistryOptions.Exemplar
// returns for ctx, if any; see ObserveExemplar.
func (h *Histogram) ObserveContext(ctx context.Context, v float64) {
	h.ObserveExemplar(v, h.series.Family().Home.ExemplarOf(ctx))
}

// ObserveSince observes the seconds elapsed since start by the registry's clock. Deferred, it
// measures a function whether it returns or panics:
//
//	defer latency.ObserveSince(time.Now())
//
// If start is later than now, perhaps because it comes from another clock, or is the zero time,
// because it was never set, 0 is observed, which is counted in gotheus_rejected_updates_total and
// logged.
func (h *Histogram) ObserveSince(start time.Time) {
	h.Observe(h.series.Family().Since("Histogram.ObserveSince", start))
}

// Count returns the number of observations: in shared memory those of all processes, with a store,
// such as Redis, those of this process; see [Counter.Value].
func (h *Histogram) Count() uint64 { return h.read().Count }

// Sum returns the sum of the observations that Count counts. Once it exceeds the largest float64,
// some 1.8e308, it is infinite and stays so.
func (h *Histogram) Sum() float64 { return h.read().Sum }

func (h *Histogram) read() *expo.Distribution {
	d := new(expo.Distribution)
	series.Read((*histogramCore)(h), func(words backend.Words, further []index.Block) {
		r := page.Reader{Blocks: further}
		r.Histogram(d, h.series.Family().Def, words)
	})
	return d
}

// limit returns the largest count that a bucket can hold. With exponential buckets, reserve has
// decided already: what is counted there has room here, too, beside what Observe has counted.
func (h *Histogram) limit() uint64 {
	if h.observing.native {
		return backend.SealedInt - 1
	}
	return h.series.Family().Def.BucketLimit()
}

// countable reports whether n observations of v are to be counted. It rejects those that make no
// sense.
func countable(f *series.Family, op string, v float64, n uint64) bool {
	switch {
	case n == 0:
	case !word.Finite(v):
		f.Reject(op, v, "must be finite")
	case n >= 1<<53:
		f.Reject(op, float64(n), "the number of observations must be below 2^53")
	case !word.Finite(v * float64(n)):
		f.Reject(op, v, "must stay finite when multiplied by the number of observations")
	default:
		return true
	}
	return false
}

// histogramCore is the series.Instrument of a Histogram, see coreOf.
type histogramCore Histogram

// Series implements series.Instrument.
func (h *histogramCore) Series() *series.Series { return &h.series }

// Exponents implements series.Instrument.
func (h *histogramCore) Exponents() *series.Exponents { return &h.exponents }

// Room implements series.Instrument.
func (h *histogramCore) Room() backend.Words { return nil }

// Move implements series.Instrument.
func (h *histogramCore) Move(to, from backend.Words) {
	f := h.series.Family()
	if h.observing == nil { // no lock: the histogram is new and not shared yet
		h.observing = f.Observing.(*observing)
	}
	if &to[0] == &h.series.Row.Words[0] {
		h.cells.Store(&h.series.Row)
	} else {
		h.cells.Store(&backend.Series{Words: to})
	}
	h.exponents.Move(&h.series, to, from)
	if from != nil {
		f.CarryHistogram(to, from)
	}
}
