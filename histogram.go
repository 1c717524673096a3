package gotheus

import (
	"sort"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// Histogram counts observations in buckets and adds them up. All methods may be called concurrently;
// updates never block, fail or allocate. Histograms are made by [NewHistogram], [New] or a [Vec].
type Histogram struct {
	cells atomic.Pointer[histogramCells]
	series
}

type histogramCells struct {
	bounds []float64
	words  backend.Words // see backend.HistogramSum
}

// Observe counts v, which must be finite; otherwise the histogram stays as it is, and the attempt is
// counted in gotheus_rejected_updates_total and logged.
func (h *Histogram) Observe(v float64) {
	if !finite(v) {
		h.fam.reject("Histogram.Observe", v, "must be finite")
		return
	}
	for {
		c := h.cells.Load()
		w := &c.words[backend.HistogramBuckets+c.bucket(v)]
		if int64(w.Add(1)) >= 0 {
			break
		}
		if h.cells.Load() == c {
			h.escape(h, w)
		}
	}
	for {
		c := h.cells.Load()
		w := &c.words[backend.HistogramSum]
		if addFloat(w, v) {
			return
		}
		if h.cells.Load() == c {
			h.escape(h, w)
		}
	}
}

// ObserveN counts v n times, as n calls of Observe would, at the price of one; n times v is added to the
// sum in one step. It must be finite, and n below 2^53; otherwise the histogram stays as it is, and the
// attempt is counted in gotheus_rejected_updates_total and logged. If n is 0, nothing happens.
//
// The same goes for a bucket that has no room for n more: each has an equal share of 2^62 observations.
func (h *Histogram) ObserveN(v float64, n uint64) {
	if !h.fam.countable("Histogram.ObserveN", v, n) {
		return
	}
	for added := false; !added; {
		c := h.cells.Load()
		w := &c.words[backend.HistogramBuckets+c.bucket(v)]
		switch addCount(w, n, c.limit()) {
		case countAdded:
			added = true
		case countFull:
			h.fam.reject("Histogram.ObserveN", float64(n), "the bucket has no room for so many more observations")
			return
		case countSealed:
			// The new pointer was published before the seal was set.
			if h.cells.Load() == c {
				h.escape(h, w)
			}
		}
	}
	for v *= float64(n); ; {
		c := h.cells.Load()
		w := &c.words[backend.HistogramSum]
		if addFloat(w, v) {
			return
		}
		if h.cells.Load() == c {
			h.escape(h, w)
		}
	}
}

// bucket returns the index of the first bucket that v fits in. Up to some twenty buckets a scan beats
// a binary search, since its branches are easily predicted.
func (c *histogramCells) bucket(v float64) int {
	if len(c.bounds) > 20 {
		return sort.SearchFloat64s(c.bounds, v)
	}
	for i, b := range c.bounds {
		if v <= b {
			return i
		}
	}
	return len(c.bounds)
}

// limit is what a bucket holds at most, so that the count, which is the sum of all buckets, does not wrap.
func (c *histogramCells) limit() uint64 { return backend.IntLimit / uint64(len(c.bounds)+1) }

// ObserveSince observes the seconds that have passed since start by the registry's clock, whether the
// function returns or panics, as in
//
//	defer latency.ObserveSince(time.Now())
func (h *Histogram) ObserveSince(start time.Time) { h.Observe(h.fam.reg.since(start)) }

// Count returns the number of observations as the page of this process would show it.
func (h *Histogram) Count() uint64 { return h.read().Count }

// Sum returns the sum of the observations as the page of this process would show it. Once they add up
// to more than a float64 can hold, some 1.8e308, it is infinite and stays so.
func (h *Histogram) Sum() float64 { return h.read().Sum }

func (h *Histogram) read() *distribution {
	h.fam.reg.moveMu.Lock()
	defer h.fam.reg.moveMu.Unlock()
	d := new(distribution)
	readHistogram(d, h.words)
	return d
}

func (h *Histogram) move(to, from backend.Words) {
	c := &histogramCells{h.fam.def.Buckets, to}
	h.cells.Store(c)
	if from == nil {
		return
	}
	for i := backend.HistogramBuckets; i < len(from); i++ {
		carryCount(&to[i], sealInt(&from[i]), c.limit())
	}
	if v := sealFloat(&from[backend.HistogramSum]); v != 0 {
		addFloat(&to[backend.HistogramSum], v)
	}
}
