package gotheus

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Histogram counts observations in buckets and adds them up. All methods may be called concurrently;
// updates never block, fail or allocate. Histograms are made by [NewHistogram], [TryNew] or a [Vec].
type Histogram struct {
	cells atomic.Pointer[backend.Series] // has the words, see backend.HistogramSum; the row, unless the series has moved
	how   *observing                     // the family's
	exponents
	series
}

// observing is what all histograms of a family do.
type observing struct {
	places  places // of buckets with bounds
	classic bool   // there are such
	native  bool   // there are exponential buckets
	striped bool
	plain   bool // classic and nothing else, and places has a table
}

func observingOf(f *backend.Family) *observing {
	o := &observing{classic: f.Classic(), native: f.Native != nil, striped: f.Stripes != 0}
	if o.classic {
		o.places = placesOf(f.Buckets)
	}
	o.plain = o.places.cells != nil && !o.native && !o.striped
	return o
}

// Observe counts v, which must be finite; otherwise the histogram stays as it is, and the attempt is
// counted in gotheus_rejected_updates_total and logged.
//
// Here is what nearly all observations need. Nothing is called that could return to more, so that nothing has to be
// kept on the stack in the meantime.
func (h *Histogram) Observe(v float64) {
	c, how := h.cells.Load(), h.how
	if !how.plain || !finite(v) {
		h.observe(v)
		return
	}
	if c.Words[backend.HistogramBuckets+how.places.quick(v)].Add(1) >= backend.SealedInt {
		h.observe(v) // this has not counted
		return
	}
	sum := &c.Words[backend.HistogramSum]
	old := sum.Load()
	if old == backend.SealedFloat || !sum.CompareAndSwap(old, floatBits(math.Float64frombits(old)+v)) {
		h.addSum(c, v)
	}
}

// observe is Observe for all cases.
//
//go:noinline
func (h *Histogram) observe(v float64) {
	if !finite(v) {
		h.fam().reject("Histogram.Observe", v, "must be finite")
		return
	}
	c := h.cells.Load()
	if h.how.native && h.observeNative(c, v) {
		return
	}
	words := h.pick(c)
	for {
		w := &words[backend.HistogramBuckets+h.how.places.bucket(v)]
		if w.Add(1) < backend.SealedInt {
			break
		}
		c = h.elsewhere(c, w)
		words = h.pick(c)
	}
	if !addFloat(&words[backend.HistogramSum], v) {
		h.addSum(c, v)
	}
}

// pick returns the words to add to, those of c unless there are stripes.
func (h *Histogram) pick(c *backend.Series) backend.Words {
	if h.how.striped {
		s := &h.spot.Load().stripes
		return s.words[s.at():]
	}
	return c.Words
}

// observeNative counts v in its exponential bucket, before the others, which must not add up to more. If there are
// no others, it adds v to the sum as well and reports true: that was all.
func (h *Histogram) observeNative(c *backend.Series, v float64) bool {
	if w := h.at.Load().quick(v); w == nil || int64(w.Add(1)) < 0 {
		h.add(h, v, 1)
	}
	if !h.how.classic {
		h.addSum(c, v)
		return true
	}
	return false
}

//go:noinline
func (h *Histogram) addSum(c *backend.Series, v float64) {
	for {
		w := &h.pick(c)[backend.HistogramSum]
		if addFloat(w, v) {
			return
		}
		c = h.elsewhere(c, w)
	}
}

// elsewhere returns where the histogram counts now, since w, a word of c, is sealed. If it has moved, its new
// pointer was published before the seal was set.
func (h *Histogram) elsewhere(c *backend.Series, w *atomic.Uint64) *backend.Series {
	if h.cells.Load() == c {
		h.escape(h, w)
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
	if !h.fam().countable("Histogram.ObserveN", v, n) {
		return
	}
	c := h.cells.Load()
	if h.how.native {
		if !h.reserve(n) {
			return
		}
		h.add(h, v, n)
	}
	for added := !h.how.classic; !added; {
		w := &h.pick(c)[backend.HistogramBuckets+h.how.places.bucket(v)]
		switch addCount(w, n, h.limit()) {
		case countAdded:
			added = true
		case countFull:
			h.fam().reject("Histogram.ObserveN", float64(n), "the bucket has no room for so many more observations")
			return
		case countSealed:
			c = h.elsewhere(c, w)
		}
	}
	h.addSum(c, v*float64(n))
}

// reserve makes sure that n more observations in exponential buckets do not let the count wrap.
func (h *Histogram) reserve(n uint64) bool {
	for {
		c := h.cells.Load()
		w := h.fam().def.Many(c.Words)
		switch addCount(w, n, backend.IntLimit) {
		case countAdded:
			return true
		case countFull:
			h.fam().reject("Histogram.ObserveN", float64(n), "the histogram has no room for so many more observations")
			return false
		case countSealed:
			h.elsewhere(c, w)
		}
	}
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
	h.Observe(h.fam().since("Histogram.ObserveSince", start))
}

// Count returns the number of observations: in shared memory those of all processes. Over a store, such as Redis, those of
// this process, see [Counter.Value].
func (h *Histogram) Count() uint64 { return h.read().Count }

// Sum returns the sum of the observations that Count counts. Once they add up to more than a float64 can hold, some
// 1.8e308, it is infinite and stays so.
func (h *Histogram) Sum() float64 { return h.read().Sum }

func (h *Histogram) read() *distribution {
	h.fam().reg.moveMu.Lock()
	defer h.fam().reg.moveMu.Unlock()
	d := new(distribution)
	p := new(scratch)
	p.further = h.everywhere(h)
	p.readHistogram(d, h.fam().def, h.words())
	return d
}

func (h *Histogram) move(to, from backend.Words) {
	def := h.fam().def
	if h.how == nil {
		h.how = h.fam().observing // it has just been made, and nobody else has it
	}
	if &to[0] == &h.row.Words[0] {
		h.cells.Store(&h.row)
	} else {
		h.cells.Store(&backend.Series{Words: to})
	}
	h.exponents.move(&h.series, to, from)
	if from == nil {
		return
	}
	for to, from := range h.fam().eachStripe(to, from) {
		for i := range len(def.Buckets) + 1 {
			if i += backend.HistogramBuckets; h.how.classic {
				carryCount(&to[i], sealInt(&from[i]), h.limit())
			}
		}
		if v := sealFloat(&from[backend.HistogramSum]); v != 0 {
			addFloat(&to[backend.HistogramSum], v)
		}
	}
	if h.how.native {
		sealInt(def.Many(from)) // what is carried over is counted there again
	}
	h.fam().carryStart(to, from)
}

// limit is what a bucket holds at most. Where there are exponential buckets, these have been limited together.
func (h *Histogram) limit() uint64 {
	if h.fam().def.Native != nil {
		return backend.IntLimit
	}
	return h.fam().def.BucketLimit()
}
