package gotheus

import (
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// Instruments as package series sees them: distinct types with the same underlying structs, so that
// the methods for series.Instrument are not in the method sets of the exported types. Converting a
// pointer is free.
type (
	counterCore   Counter
	gaugeCore     Gauge
	histogramCore Histogram
	summaryCore   Summary
)

// coreOf converts an instrument for package series.
func coreOf[M Instrument](m *M) series.Instrument {
	switch m := any(m).(type) {
	case *Counter:
		return (*counterCore)(m)
	case *Gauge:
		return (*gaugeCore)(m)
	case *Histogram:
		return (*histogramCore)(m)
	case *Summary:
		return (*summaryCore)(m)
	case *StateSet:
		return (*gaugeCore)(&m.gauge)
	}
	panic("gotheus: an instrument of an unknown type")
}

// labelsOf returns the label text of an instrument. A call through an interface would be slower.
func labelsOf[M Instrument](m *M) string {
	switch m := any(m).(type) {
	case *Counter:
		return m.series.Row.Labels
	case *Histogram:
		return m.series.Row.Labels
	case *Gauge:
		return m.series.Row.Labels
	case *Summary:
		return m.series.Row.Labels
	}
	return coreOf(m).Series().Row.Labels
}

// Series implements series.Instrument.
func (c *counterCore) Series() *series.Series { return &c.series }

// Exponents implements series.Instrument.
func (c *counterCore) Exponents() *series.Exponents { return nil }

// Room implements series.Instrument.
func (c *counterCore) Room() backend.Words { return c.room[:] }

// Move implements series.Instrument.
func (c *counterCore) Move(to, from backend.Words) {
	f := c.series.Family()
	if f.Def.Stripes == 0 {
		c.n.Store(&to[backend.CounterInt])
	} else if !c.striped {
		c.striped = true // no lock: the counter is new and not shared yet
	}
	if from != nil {
		f.CarryCounter(to, from)
	}
}

// Series implements series.Instrument.
func (g *gaugeCore) Series() *series.Series { return &g.series }

// Exponents implements series.Instrument.
func (g *gaugeCore) Exponents() *series.Exponents { return nil }

// Room implements series.Instrument.
func (g *gaugeCore) Room() backend.Words { return nil }

// Move implements series.Instrument.
func (g *gaugeCore) Move(to, from backend.Words) {
	f := g.series.Family()
	c := &gaugeCells{words: to, parts: f.Def.Parts(), touch: f.TTL > 0}
	if f.Def.Mode == backend.Latest {
		c.tickets = f.Home.Current().Tickets()
	}
	if from != nil && f.CarryGauge(to, from) {
		c.join()
	}
	g.cells.Store(c)
}

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
		f.CarryHistogram(to, from, (*Histogram)(h).limit())
	}
}

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
