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

// Summary counts observations and adds them up. All methods may be called concurrently; updates
// never block, fail or allocate. Summaries are made by [NewSummary], [TryNew] or a [Vec].
type Summary struct {
	cells     atomic.Pointer[[2]atomic.Uint64] // see backend.SummaryCount
	exponents series.Exponents
	series    series.Series
}

// Observe counts v, which must be finite; otherwise the summary stays as it is, and the attempt is
// counted in gotheus_rejected_updates_total and logged.
func (s *Summary) Observe(v float64) {
	if !word.Finite(v) {
		s.series.Family().Reject("Summary.Observe", v, "must be finite")
		return
	}
	c := s.cells.Load()
	for int64(c[backend.SummaryCount].Add(1)) < 0 {
		c = s.elsewhere(c, &c[backend.SummaryCount])
	}
	if s.exponents.InUse() && !s.exponents.Quick(v) {
		s.exponents.Add((*summaryCore)(s), v, 1)
	}
	for !word.AddFloat(&c[backend.SummarySum], v) {
		c = s.elsewhere(c, &c[backend.SummarySum])
	}
}

// elsewhere returns where the summary counts now, since w, a word of c, is sealed. If it has moved,
// its new pointer was published before the seal was set.
func (s *Summary) elsewhere(c *[2]atomic.Uint64, w *atomic.Uint64) *[2]atomic.Uint64 {
	if s.cells.Load() == c {
		series.Escape((*summaryCore)(s), w)
	}
	return s.cells.Load()
}

// ObserveN counts v n times, as n calls of Observe would, at the price of one; n times v is added
// to the sum in one step. It must be finite, and n below 2^53; otherwise the summary stays as it
// is, and the attempt is counted in gotheus_rejected_updates_total and logged. If n is 0, nothing
// happens.
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
			s.series.Family().Reject("Summary.ObserveN", float64(n), "the summary has no room for so many more observations")
			return
		case word.Sealed:
			c = s.elsewhere(c, w)
		}
	}
	if s.exponents.InUse() {
		s.exponents.Add((*summaryCore)(s), v, n)
	}
	for v *= float64(n); !word.AddFloat(&c[backend.SummarySum], v); {
		c = s.elsewhere(c, &c[backend.SummarySum])
	}
}

// ObserveSince observes the seconds that have passed since start by the registry's clock, whether
// the function returns or panics, as in
//
//	defer latency.ObserveSince(time.Now())
//
// A start that cannot be right is treated as [Histogram.ObserveSince] does.
func (s *Summary) ObserveSince(start time.Time) {
	s.Observe(s.series.Family().Since("Summary.ObserveSince", start))
}

// Count returns the number of observations: in shared memory those of all processes. Over a store,
// such as Redis, those of this process, see [Counter.Value].
func (s *Summary) Count() uint64 { return s.read().Count }

// Sum returns the sum of the observations that Count counts. Once they add up to more than a
// float64 can hold, some 1.8e308, it is infinite and stays so.
func (s *Summary) Sum() float64 { return s.read().Sum }

func (s *Summary) read() *expo.Distribution {
	home := s.series.Family().Home
	home.Moves.Lock()
	defer home.Moves.Unlock()
	d := new(expo.Distribution)
	page.Summary(d, s.series.Words())
	return d
}
