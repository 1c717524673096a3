package gotheus

import (
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Summary counts observations and adds them up, and shows quantiles if its options have Objectives.
// All methods may be called concurrently; updates never block, fail or allocate. Summaries come
// from [NewSummary], [TryNew] or a [Vec].
type Summary struct {
	cells     atomic.Pointer[[2]atomic.Uint64] // see backend.SummaryCount
	exponents series.Exponents
	series    series.Series
}

// Observe adds an observation of v, which must be finite. Any other v is ignored, counted in
// gotheus_rejected_updates_total and logged.
func (s *Summary) Observe(v float64) {
	if !word.Finite(v) {
		s.series.Family().Reject("Summary.Observe", v, "must be finite")
		return
	}
	c := s.cells.Load()
	for int64(c[backend.SummaryCount].Add(1)) < 0 {
		c = s.elsewhere(c, &c[backend.SummaryCount])
	}
	if s.exponents.InUse() {
		w, first := s.exponents.Quick(v)
		if w == nil || first != &c[0] || int64(w.Add(1)) < 0 {
			words, ok := s.exponents.Add((*summaryCore)(s), c[:], v, 1)
			if !ok {
				return
			}
			c = (*[2]atomic.Uint64)(words)
		}
	}
	if !word.AddFloat(&c[backend.SummarySum], v) {
		s.addSum(c, v)
	}
}

// addSum adds v to the sum, for an update that has counted in c and found its sum sealed.
func (s *Summary) addSum(c *[2]atomic.Uint64, v float64) {
	for first := &c[0]; ; {
		words, ok := series.Follow((*summaryCore)(s), first)
		if !ok || word.AddFloat(&words[backend.SummarySum], v) {
			return
		}
		first = &words[0]
	}
}

// elsewhere returns where an update begins that has found w, a word of c, sealed. If the summary
// has moved, its new pointer was published before the word was sealed.
func (s *Summary) elsewhere(c *[2]atomic.Uint64, w *atomic.Uint64) *[2]atomic.Uint64 {
	if s.cells.Load() == c {
		series.Escape((*summaryCore)(s), w)
	}
	return s.cells.Load()
}

// ObserveN adds n observations of v, at the cost of one; n times v is added to the sum in one step.
// v and n times v must be finite, and n below 2^53. Otherwise the call is ignored, counted in
// gotheus_rejected_updates_total and logged. If n is 0, nothing happens.
//
// The same goes for a summary that would hold more than 2^62 observations.
func (s *Summary) ObserveN(v float64, n uint64) {
	if !countable(s.series.Family(), "Summary.ObserveN", v, n) {
		return
	}
	c := s.cells.Load()
	for added := false; !added; {
		w := &c[backend.SummaryCount]
		switch word.AddCount(w, n, backend.IntLimit) {
		case word.Added:
			added = true
		case word.Full:
			s.series.Family().Reject("Summary.ObserveN", float64(n), "the summary has no room for that many more observations")
			return
		case word.Sealed:
			c = s.elsewhere(c, w)
		}
	}
	if s.exponents.InUse() {
		words, ok := s.exponents.Add((*summaryCore)(s), c[:], v, n)
		if !ok {
			return
		}
		c = (*[2]atomic.Uint64)(words)
	}
	if v *= float64(n); !word.AddFloat(&c[backend.SummarySum], v) {
		s.addSum(c, v)
	}
}

// ObserveSince observes the seconds elapsed since start by the registry's clock. Deferred, it
// measures a function whether it returns or panics:
//
//	defer latency.ObserveSince(time.Now())
//
// An invalid start is treated as in [Histogram.ObserveSince].
func (s *Summary) ObserveSince(start time.Time) {
	s.Observe(s.series.Family().Since("Summary.ObserveSince", start))
}

// Count returns the number of observations: in shared memory those of all processes, with a store,
// such as Redis, those of this process; see [Counter.Value].
func (s *Summary) Count() uint64 { return s.read().Count }

// Sum returns the sum of the observations that Count counts. Once it exceeds the largest float64,
// some 1.8e308, it is infinite and stays so.
func (s *Summary) Sum() float64 { return s.read().Sum }

func (s *Summary) read() *expo.Distribution {
	home := s.series.Family().Home
	home.Moves.Lock()
	defer home.Moves.Unlock()
	d := new(expo.Distribution)
	page.Summary(d, s.series.Words())
	return d
}

// summaryCore is the series.Instrument of a Summary, see coreOf.
type summaryCore Summary

// Series implements series.Instrument.
func (s *summaryCore) Series() *series.Series { return &s.series }

// Exponents implements series.Instrument.
func (s *summaryCore) Exponents() *series.Exponents { return &s.exponents }

// Room implements series.Instrument.
func (s *summaryCore) Room() backend.Words { return nil }

// Move implements series.Instrument.
func (s *summaryCore) Move(to, from backend.Words) {
	s.cells.Store((*[2]atomic.Uint64)(to))
	s.exponents.Move(&s.series, to, from)
	if from != nil {
		s.series.Family().CarrySummary(to, from)
	}
}
