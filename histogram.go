package gotheus

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/bounds"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Histogram counts observations in buckets and adds them up. All methods may be called concurrently;
// updates never block, fail or allocate. Histograms are made by [NewHistogram], [TryNew] or a [Vec].
type Histogram struct {
	cells     atomic.Pointer[backend.Series] // has the words, see backend.HistogramSum; the row, unless the series has moved
	observing *observing                     // the family's
	exponents series.Exponents
	series    series.Series
}

// observing is what all histograms of a family do.
type observing struct {
	buckets bounds.Buckets // at given bounds
	classic bool           // there are such
	native  bool           // there are exponential buckets
	striped bool
	plain   bool // classic and nothing else, and buckets has a table
}

func observingOf(f *backend.Family) *observing {
	o := &observing{classic: f.Classic(), native: f.Native != nil, striped: f.Stripes != 0}
	if o.classic {
		o.buckets = bounds.Of(f.Buckets)
	}
	o.plain = o.buckets.HasTable() && !o.native && !o.striped
	return o
}

// Observe counts v, which must be finite; otherwise the histogram stays as it is, and the attempt is
// counted in gotheus_rejected_updates_total and logged.
//
// Here is what nearly all observations need. Nothing is called that could return to more, so that nothing has to be
// kept on the stack in the meantime.
func (h *Histogram) Observe(v float64) {
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
		h.addSum(c, v)
	}
}

// observe is Observe for all cases.
//
//go:noinline
func (h *Histogram) observe(v float64) {
	if !word.Finite(v) {
		h.series.Family().Reject("Histogram.Observe", v, "must be finite")
		return
	}
	c := h.cells.Load()
	if h.observing.native && h.observeNative(c, v) {
		return
	}
	words := h.pick(c)
	for {
		w := &words[backend.HistogramBuckets+h.observing.buckets.Find(v)]
		if w.Add(1) < backend.SealedInt {
			break
		}
		c = h.elsewhere(c, w)
		words = h.pick(c)
	}
	if !word.AddFloat(&words[backend.HistogramSum], v) {
		h.addSum(c, v)
	}
}

// pick returns the words to add to, those of c unless there are stripes.
func (h *Histogram) pick(c *backend.Series) backend.Words {
	if h.observing.striped {
		s := h.series.Stripes()
		return s.Words[s.Offset():]
	}
	return c.Words
}

// observeNative counts v in its exponential bucket, before the others, which must not add up to more. If there are
// no others, it adds v to the sum as well and reports true: that was all.
func (h *Histogram) observeNative(c *backend.Series, v float64) bool {
	if !h.exponents.Quick(v) {
		h.exponents.Add((*histogramCore)(h), v, 1)
	}
	if !h.observing.classic {
		h.addSum(c, v)
		return true
	}
	return false
}

//go:noinline
func (h *Histogram) addSum(c *backend.Series, v float64) {
	for {
		w := &h.pick(c)[backend.HistogramSum]
		if word.AddFloat(w, v) {
			return
		}
		c = h.elsewhere(c, w)
	}
}

// elsewhere returns where the histogram counts now, since w, a word of c, is sealed. If it has moved, its new
// pointer was published before the seal was set.
func (h *Histogram) elsewhere(c *backend.Series, w *atomic.Uint64) *backend.Series {
	if h.cells.Load() == c {
		series.Escape((*histogramCore)(h), w)
	}
	return h.cells.Load()
}

// ObserveN counts v n times, as n calls of Observe would, at the price of one; n times v is added to the
// sum in one step. It must be finite, and n below 2^53; otherwise the histogram stays as it is, and the
// attempt is counted in gotheus_rejected_updates_total and logged. If n is 0, nothing happens.
//
// The same goes for a bucket that has no room for n more: each has an equal share of 2^62 observations. If there are
// exponential buckets, all together have 2^62.
func (h *Histogram) ObserveN(v float64, n uint64) {
	if !countable(h.series.Family(), "Histogram.ObserveN", v, n) {
		return
	}
	c := h.cells.Load()
	if h.observing.native {
		if !h.reserve(n) {
			return
		}
		h.exponents.Add((*histogramCore)(h), v, n)
	}
	for added := !h.observing.classic; !added; {
		w := &h.pick(c)[backend.HistogramBuckets+h.observing.buckets.Find(v)]
		switch word.AddCount(w, n, h.limit()) {
		case word.Added:
			added = true
		case word.Full:
			h.series.Family().Reject("Histogram.ObserveN", float64(n), "the bucket has no room for so many more observations")
			return
		case word.Sealed:
			c = h.elsewhere(c, w)
		}
	}
	h.addSum(c, v*float64(n))
}

// reserve makes sure that n more observations in exponential buckets do not let the count wrap.
func (h *Histogram) reserve(n uint64) bool {
	for {
		c := h.cells.Load()
		w := h.series.Family().Def.Many(c.Words)
		switch word.AddCount(w, n, backend.IntLimit) {
		case word.Added:
			return true
		case word.Full:
			h.series.Family().Reject("Histogram.ObserveN", float64(n), "the histogram has no room for so many more observations")
			return false
		case word.Sealed:
			h.elsewhere(c, w)
		}
	}
}

// ObserveExemplar counts v as Observe does, with an exemplar; see Counter.AddExemplar. The page shows the newest of
// each bucket, or if there are exponential buckets alone, of ten values of different magnitude.
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

// ObserveContext counts v as Observe does, with the exemplar that RegistryOptions.Exemplar returns for ctx, if any.
// See ObserveExemplar.
func (h *Histogram) ObserveContext(ctx context.Context, v float64) {
	h.ObserveExemplar(v, h.series.Family().Home.ExemplarOf(ctx))
}

// ObserveSince observes the seconds that have passed since start by the registry's clock, whether the
// function returns or panics, as in
//
//	defer latency.ObserveSince(time.Now())
//
// A start that is later than now, being of another clock perhaps, or that is the zero time, since it was
// never set, counts as no time: 0 is observed, and that is counted in gotheus_rejected_updates_total and
// logged.
func (h *Histogram) ObserveSince(start time.Time) {
	h.Observe(h.series.Family().Since("Histogram.ObserveSince", start))
}

// Count returns the number of observations: in shared memory those of all processes. Over a store, such as Redis, those of
// this process, see [Counter.Value].
func (h *Histogram) Count() uint64 { return h.read().Count }

// Sum returns the sum of the observations that Count counts. Once they add up to more than a float64 can hold, some
// 1.8e308, it is infinite and stays so.
func (h *Histogram) Sum() float64 { return h.read().Sum }

func (h *Histogram) read() *expo.Distribution {
	f := h.series.Family()
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	d := new(expo.Distribution)
	r := page.Reader{Blocks: series.Blocks((*histogramCore)(h))}
	r.Histogram(d, f.Def, h.series.Words())
	return d
}

// limit is what a bucket holds at most. Where there are exponential buckets, these have been limited together.
func (h *Histogram) limit() uint64 {
	if h.series.Family().Def.Native != nil {
		return backend.IntLimit
	}
	return h.series.Family().Def.BucketLimit()
}

// countable reports whether n observations of v can be counted, and rejects them if there are any.
func countable(f *series.Family, op string, v float64, n uint64) bool {
	switch {
	case n == 0:
	case !word.Finite(v):
		f.Reject(op, v, "must be finite")
	case n >= 1<<53:
		f.Reject(op, float64(n), "the number of observations must be below 2^53")
	case !word.Finite(v * float64(n)):
		f.Reject(op, v, "must be finite also when multiplied by the number of observations")
	default:
		return true
	}
	return false
}
