package gotheus

import (
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// Summary counts observations and adds them up. All methods may be called concurrently; updates never
// block, fail or allocate. Summaries are made by [NewSummary], [New] or a [Vec].
type Summary struct {
	cells atomic.Pointer[[2]atomic.Uint64] // see backend.SummaryCount
	series
}

// Observe counts v, which must be finite; otherwise the summary stays as it is, and the attempt is
// counted in gotheus_rejected_updates_total and logged.
func (s *Summary) Observe(v float64) {
	if !finite(v) {
		s.fam.reject("Summary.Observe", v, "must be finite")
		return
	}
	for {
		c := s.cells.Load()
		if int64(c[backend.SummaryCount].Add(1)) >= 0 {
			break
		}
		if s.cells.Load() == c {
			s.escape(s, &c[backend.SummaryCount])
		}
	}
	for {
		c := s.cells.Load()
		if addFloat(&c[backend.SummarySum], v) {
			return
		}
		if s.cells.Load() == c {
			s.escape(s, &c[backend.SummarySum])
		}
	}
}

// ObserveN counts v n times, as n calls of Observe would, at the price of one; n times v is added to the
// sum in one step. It must be finite, and n below 2^53; otherwise the summary stays as it is, and the
// attempt is counted in gotheus_rejected_updates_total and logged. If n is 0, nothing happens.
//
// The same goes for a summary that would hold more than 2^62 observations.
func (s *Summary) ObserveN(v float64, n uint64) {
	if !s.fam.countable("Summary.ObserveN", v, n) {
		return
	}
	for added := false; !added; {
		c := s.cells.Load()
		w := &c[backend.SummaryCount]
		switch addCount(w, n, backend.IntLimit) {
		case countAdded:
			added = true
		case countFull:
			s.fam.reject("Summary.ObserveN", float64(n), "the summary has no room for so many more observations")
			return
		case countSealed:
			// The new pointer was published before the seal was set.
			if s.cells.Load() == c {
				s.escape(s, w)
			}
		}
	}
	for v *= float64(n); ; {
		c := s.cells.Load()
		w := &c[backend.SummarySum]
		if addFloat(w, v) {
			return
		}
		if s.cells.Load() == c {
			s.escape(s, w)
		}
	}
}

// ObserveSince observes the seconds that have passed since start by the registry's clock, whether the
// function returns or panics, as in
//
//	defer latency.ObserveSince(time.Now())
func (s *Summary) ObserveSince(start time.Time) { s.Observe(s.fam.reg.since(start)) }

// Count returns the number of observations as the page of this process would show it.
func (s *Summary) Count() uint64 { return s.read().Count }

// Sum returns the sum of the observations as the page of this process would show it. Once they add up
// to more than a float64 can hold, some 1.8e308, it is infinite and stays so.
func (s *Summary) Sum() float64 { return s.read().Sum }

func (s *Summary) read() *distribution {
	s.fam.reg.moveMu.Lock()
	defer s.fam.reg.moveMu.Unlock()
	d := new(distribution)
	readSummary(d, s.words)
	return d
}

func (s *Summary) move(to, from backend.Words) {
	c := (*[2]atomic.Uint64)(to)
	s.cells.Store(c)
	if from == nil {
		return
	}
	carryCount(&c[backend.SummaryCount], sealInt(&from[backend.SummaryCount]), backend.IntLimit)
	if v := sealFloat(&from[backend.SummarySum]); v != 0 {
		addFloat(&c[backend.SummarySum], v)
	}
}
