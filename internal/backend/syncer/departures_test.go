package syncer_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

var departures = flag.Int("departures", 100/share, "how often processes depart in TestSumsNeverDecrease")

// summed are families with floats in words of every layout, and how many series each has.
var summed = []struct {
	*backend.Family
	series int
}{
	{&backend.Family{Name: "h", Help: "H.", Kind: backend.Histogram, Labels: []string{"x"}, Buckets: []float64{1, 2}}, 200},
	{&backend.Family{Name: "f_total", Help: "F.", Kind: backend.Counter, Labels: []string{"x"}}, 10},
	{&backend.Family{Name: "s", Help: "S.", Kind: backend.Summary, Labels: []string{"x"}}, 10},
	{&backend.Family{Name: "st", Help: "St.", Kind: backend.Histogram, Labels: []string{"x"}, Buckets: []float64{1}, Stripes: 2}, 5},
	{&backend.Family{Name: "n", Help: "N.", Kind: backend.Histogram, Labels: []string{"x"}, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}, 5},
	{&backend.Family{Name: "q", Help: "Q.", Kind: backend.Summary, Labels: []string{"x"}, Sketch: &backend.Sketch{Quantiles: []float64{.5}, PerDoubling: 8, Slots: 2, MaxAge: 6e10}}, 5},
	{&backend.Family{Name: "g", Help: "G.", Kind: backend.Gauge, Labels: []string{"x"}}, 5},
}

// floatsOf returns the floats of a series.
func floatsOf(f *backend.Family, w backend.Words) (list []*atomic.Uint64) {
	at := 0
	switch f.Kind {
	case backend.Counter:
		at = backend.CounterFloat
	case backend.Histogram:
		at = backend.HistogramSum
	case backend.Summary:
		at = backend.SummarySum
	}
	for range max(1, f.Stripes) {
		list = append(list, &w[at])
		at += f.StripeWords()
	}
	return list
}

// sums is a test of pages with floats.
type sums struct {
	*sim
	shown  map[string]float64 // on the last page
	pages  int
	values int
}

// observe adds floats of many magnitudes. In some series, they are so far apart that two words do
// not hold their exact sum.
func (m *sums) observe(p *proc) {
	for _, f := range summed {
		for i := range f.series {
			if m.rnd.IntN(3) > 0 {
				continue
			}
			exp := m.rnd.IntN(7) - 3 + i%13 - 6
			if i%50 == 0 {
				exp = m.rnd.IntN(61) - 30
			}
			for _, w := range floatsOf(f.Family, p.words(f.Family, fmt.Sprintf("x=%q", fmt.Sprint(i)))) {
				addFloat(w, m.rnd.ExpFloat64()*math.Pow(10, float64(exp)))
			}
		}
	}
}

// check compares the pages of all processes with each other and with the previous ones.
func (m *sums) check(what string) {
	m.t.Helper()
	m.publish()
	var first map[string]float64
	for _, p := range m.procs {
		if err := p.s.Refresh(context.Background()); err != nil {
			m.t.Fatalf("%s: %s has no page: %v", what, p.name, err)
		}
		page := make(map[string]float64)
		for _, g := range p.s.Walk() {
			for _, s := range g.Series {
				for i, w := range floatsOf(g.Family, s.Words) {
					page[fmt.Sprint(g.Family.Name, s.Labels, i)] = math.Float64frombits(w.Load())
				}
			}
		}
		if first == nil {
			first = page
		}
		for k, v := range page {
			if v != first[k] {
				m.t.Fatalf("%s: %s shows %s %v, another process %v", what, p.name, k, v, first[k])
			}
		}
		for k, v := range m.shown {
			if page[k] < v {
				m.t.Fatalf("%s: %s shows %s %v, after %v", what, p.name, k, page[k], v)
			}
		}
		m.pages++
		m.values += len(page)
	}
	m.shown = first
}

// pass lets time pass for the processes that run.
func (m *sums) pass(d time.Duration) {
	for end := m.now.Add(d); m.now.Before(end); m.now = m.now.Add(3 * time.Second) {
		for _, p := range m.procs {
			if p.paused > 0 {
				continue
			}
			if err := p.s.Step(context.Background()); err != nil {
				m.t.Fatalf("%s: %v", p.name, err)
			}
		}
	}
}

// Sums of floats never decrease on any page, and are the same on all pages, however processes join,
// leave, are killed and folded, or come back, and whatever the store loses.
func TestSumsNeverDecrease(t *testing.T) {
	t.Parallel()
	const processes = 10
	m := &sums{sim: newSim(t, 1)}
	old := m.store.Snapshot()
	gone := make(map[string]int)
	for n, round := 0, 0; n < *departures; round++ {
		for len(m.procs) < processes {
			m.start()
		}
		for _, p := range m.procs {
			m.observe(p)
		}
		m.check("counting")
		many := 1 + m.rnd.IntN(4)
		m.rnd.Shuffle(len(m.procs), func(i, j int) { m.procs[i], m.procs[j] = m.procs[j], m.procs[i] })
		what := []string{"leaving", "killed", "paused", "loss"}[min(3, m.rnd.IntN(11)*10/33)]
		switch what {
		case "leaving":
			for range many {
				m.leave(0)
				m.check(what)
			}
		case "killed":
			m.procs = slices.Delete(m.procs, 0, many)
			m.pass(20 * time.Second)
		case "paused":
			paused := slices.Clone(m.procs[:many])
			m.procs = m.procs[many:]
			m.pass(20 * time.Second)
			m.check("folded")
			m.procs = append(m.procs, paused...)
			for _, p := range paused {
				if m.rnd.IntN(2) == 0 {
					m.observe(p)
				}
			}
			m.pass(3 * time.Second)
		case "loss": // of everything, or of what was changed lately
			if many = 1; m.rnd.IntN(2) == 0 {
				old = backendtest.Snapshot{}
			}
			m.store.Restore(old)
			m.pass(30 * time.Second)
		}
		m.check(what)
		if gone[what] += many; what != "loss" {
			n += many
		}
		if m.rnd.IntN(3) == 0 {
			old = m.store.Snapshot()
		}
	}
	t.Logf("%v: %d values on %d pages", gone, m.values, m.pages)
}
