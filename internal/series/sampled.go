package series

import (
	"maps"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/word"
)

// Sampled is the table of a family whose values a collector provides about this process. Each round
// overwrites its series; there are no instruments that code could update.
type Sampled struct {
	family *Family
	series map[string]*sampled // by label text; guarded by the family's lock

	removed int // from series since that was made
}

// sampled is a series of a sampled family.
type sampled struct {
	series Series
	owner  any    // the collector that provides it
	round  uint64 // the owner's last round that included the series
}

func (m *sampled) Series() *Series       { return &m.series }
func (m *sampled) Exponents() *Exponents { return nil }
func (m *sampled) Room() backend.Words   { return nil }

func (m *sampled) Move(to, from backend.Words) {
	def := m.series.Family().Def
	if from == nil || def.Sealed(from) {
		return
	}
	for i := range to {
		to[i].Store(from[i].Load())
	}
	def.Seal(from)
}

// NewSampled makes a table of sampled series for f. f must be prepared.
func NewSampled(f *Family) { f.table = &Sampled{family: f, series: make(map[string]*sampled)} }

// Value is a collector's value of a series.
type Value struct {
	Labels string
	Number float64
	Dist   *expo.Distribution // of histograms and summaries
}

// Write sets a series, which from now on belongs to owner. It reports whether the series is new. If
// the series belongs to another owner, ok is false.
func (t *Sampled) Write(owner any, round uint64, v *Value) (isNew, ok bool) {
	f := t.family
	f.mu.Lock()
	defer f.unlock()
	m := t.series[v.Labels]
	switch {
	case m == nil:
		m, isNew = &sampled{owner: owner}, true
		f.initialize(&m.series, v.Labels)
		t.series[v.Labels] = m
		f.place(m)
	case m.owner != owner:
		return false, false
	}
	m.round = round
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	store(f.Def, m.series.Words(), v)
	return isNew, true
}

// Forget removes the series of owner that were not written in this round from the page.
func (t *Sampled) Forget(owner any, round uint64) {
	t.family.Vanish(func(i Instrument) bool {
		m := i.(*sampled)
		return m.owner == owner && m.round != round
	})
}

func (t *Sampled) each(yield func(Instrument) bool) bool {
	for _, m := range t.series {
		if !yield(m) {
			return false
		}
	}
	return true
}

func (t *Sampled) lockFree() bool { return false }

func (t *Sampled) find(labels string) Instrument {
	if m := t.series[labels]; m != nil {
		return m
	}
	return nil
}

func (t *Sampled) remove(m Instrument) (weight int64) {
	delete(t.series, m.Series().Row.Labels)
	if t.removed++; t.removed > len(t.series) { // a map does not shrink
		series := make(map[string]*sampled, len(t.series))
		maps.Copy(series, t.series)
		t.series, t.removed = series, 0
	}
	return 0
}

// store sets the words of a series.
func store(def *backend.Family, words backend.Words, v *Value) {
	switch def.Kind {
	case backend.Histogram:
		words[backend.HistogramSum].Store(word.Bits(v.Dist.Sum))
		below := uint64(0)
		for i, n := range append(v.Dist.Buckets, v.Dist.Count) {
			words[backend.HistogramBuckets+i].Store(n - below)
			below = n
		}
	case backend.Summary:
		words[backend.SummaryCount].Store(v.Dist.Count)
		words[backend.SummarySum].Store(word.Bits(v.Dist.Sum))
		for i, q := range v.Dist.Quantiles {
			words[backend.SummaryQuantiles+i].Store(word.Bits(q))
		}
	default:
		words[backend.GaugeValue].Store(word.Bits(v.Number))
		words[backend.GaugeFlags].Store(backend.GaugeIsSet | backend.GaugeJoined)
	}
}

// Vanish removes this process's part of the selected series from the page until they are written
// again. In the heap, where there are no other parts, their rows are removed, too.
func (f *Family) Vanish(which func(Instrument) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var gone []Instrument
	for m := range f.all() {
		if which(m) {
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		f.Home.Moves.Lock()
		f.Def.Seal(m.Series().Words())
		f.Home.Moves.Unlock()
		if b, ok := f.Home.Current().Backend.(*heap.Backend); ok {
			b.DeleteSeries(f.Def, m.Series().Row.Labels)
		}
		f.dropIfDeleted(m)
	}
}
