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

// ObserveSince observes the seconds that have passed since start by the registry's clock, whether the
// function returns or panics, as in
//
//	defer latency.ObserveSince(time.Now())
func (h *Histogram) ObserveSince(start time.Time) { h.Observe(h.fam.reg.since(start)) }

// Count returns the number of observations as the page of this process would show it.
func (h *Histogram) Count() uint64 { return h.read().Count }

// Sum returns the sum of the observations as the page of this process would show it.
func (h *Histogram) Sum() float64 { return h.read().Sum }

func (h *Histogram) read() *distribution {
	h.fam.reg.moveMu.Lock()
	defer h.fam.reg.moveMu.Unlock()
	d := new(distribution)
	readHistogram(d, h.words)
	return d
}

func (h *Histogram) move(to, from backend.Words) {
	h.cells.Store(&histogramCells{h.fam.def.Buckets, to})
	if from == nil {
		return
	}
	for i := backend.HistogramBuckets; i < len(from); i++ {
		to[i].Add(sealInt(&from[i]))
	}
	if v := sealFloat(&from[backend.HistogramSum]); v != 0 {
		addFloat(&to[backend.HistogramSum], v)
	}
}
