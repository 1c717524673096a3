package tests_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// sumsModel has registries, as of different processes, that share metrics in one place.
type sumsModel struct {
	t     *testing.T
	rnd   *rand.Rand
	bind  func(*gotheus.Registry) error
	procs []*sumsProcess
	shown map[string]float64 // on the last page of the shared metrics
	seen  int                // values compared
}

type sumsProcess struct {
	r       *gotheus.Registry
	bound   bool
	observe [][]func(float64) // by magnitude, then by metric
	shown   map[string]float64
}

func (m *sumsModel) start() {
	r, _ := newRegistry(m.t, nil)
	p := &sumsProcess{r: r, shown: make(map[string]float64)}
	counter := r.NewCounterVec("f_total", "F.", nil, "n")
	striped := r.NewCounterVec("sf_total", "SF.", &gotheus.CounterOptions{Stripes: 3}, "n")
	histogram := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Buckets: []float64{1}}, "n")
	hot := r.NewHistogramVec("sh", "SH.", &gotheus.HistogramOptions{Buckets: []float64{1}, Stripes: 3}, "n")
	native := r.NewHistogramVec("nh", "NH.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}, "n")
	summary := r.NewSummaryVec("s", "S.", nil, "n")
	quantiles := r.NewSummaryVec("q", "Q.", &gotheus.SummaryOptions{Objectives: []float64{.5}}, "n")
	for i := range 3 {
		n := fmt.Sprint(i)
		p.observe = append(p.observe, []func(float64){
			counter.With(n).Add, striped.With(n).Add, histogram.With(n).Observe, hot.With(n).Observe,
			native.With(n).Observe, summary.With(n).Observe, quantiles.With(n).Observe,
			// To the integer word.
			func(v float64) { counter.With(n).Add(math.Ceil(v)) },
			func(v float64) { striped.With(n).Add(math.Ceil(v)) },
			func(v float64) { histogram.With(n).ObserveN(v, 3) },
		})
	}
	m.procs = append(m.procs, p)
}

// count makes a process observe floats of several magnitudes.
func (m *sumsModel) count(p *sumsProcess) {
	for range 1 + m.rnd.IntN(20) {
		i := m.rnd.IntN(len(p.observe))
		v := m.rnd.ExpFloat64() * math.Pow(10, float64(m.rnd.IntN(6)+4*i-6))
		p.observe[i][m.rnd.IntN(len(p.observe[i]))](v)
	}
}

// page compares a page with the last one.
func (m *sumsModel) page(p *sumsProcess, what string) {
	m.t.Helper()
	var b bytes.Buffer
	if err := p.r.WriteText(&b); err != nil {
		m.t.Fatal(err)
	}
	page := make(map[string]float64)
	for line := range strings.Lines(b.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series, _, _ := strings.Cut(name, "{"); strings.HasPrefix(name, "gotheus_") || !strings.HasSuffix(series, "_sum") && !strings.HasSuffix(series, "_total") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			m.t.Fatal(err)
		}
		page[name] = v
	}
	last := []map[string]float64{p.shown}
	if p.bound {
		last = append(last, m.shown)
	}
	for _, last := range last {
		for name, v := range last {
			m.seen++
			if page[name] < v {
				m.t.Fatalf("%s: %s is %v, after %v", what, name, page[name], v)
			}
		}
	}
	if p.shown = page; p.bound {
		m.shown = page
	}
}

// step is a random event, after which there is a page.
func (m *sumsModel) step() {
	at := m.rnd.IntN(len(m.procs))
	p := m.procs[at]
	switch k := m.rnd.IntN(10); {
	case k < 6:
		m.count(p)
		m.page(p, "counting")
	case k == 6 && len(m.procs) < 5:
		m.start()
		m.count(m.procs[len(m.procs)-1])
	case k == 7 && !p.bound:
		if err := m.bind(p.r); err != nil {
			m.t.Fatal(err)
		}
		p.bound = true
		m.page(p, "bound")
	case k > 7 && p.bound && len(m.procs) > 1:
		if err := p.r.Close(context.Background()); err != nil {
			m.t.Fatal(err)
		}
		m.procs = append(m.procs[:at], m.procs[at+1:]...)
		for _, q := range m.procs {
			m.page(q, "closed")
		}
	}
}

// Sums of floats on pages never decrease, whatever is counted, bound and closed: in the heap, in
// shared memory, whose file is rewritten from time to time, and in a store.
func TestSumsNeverDecrease(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"shm", "store"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				m := &sumsModel{t: t, rnd: rand.New(rand.NewPCG(seed, 7))}
				mem := new(backendtest.Memory)
				file := strings.TrimSuffix(shmURL(t), "2MiB")
				limit := 2048
				m.bind = func(r *gotheus.Registry) error {
					if place == "store" {
						c := &store.Config{Shards: []store.Store{mem}}
						return r.BindStore(t.Context(), c)
					}
					// When nobody has it open, it is rewritten.
					limit ^= 512
					url := fmt.Sprintf("%s%dKiB", file, limit)
					return r.Bind(t.Context(), url)
				}
				for range 5 {
					for range 60 {
						if len(m.procs) == 0 {
							m.start()
						}
						m.step()
					}
					for _, p := range m.procs {
						if !p.bound {
							if err := m.bind(p.r); err != nil {
								t.Fatal(err)
							}
						}
						if err := p.r.Close(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					m.procs = nil
				}
				if m.seen < 1000 {
					t.Errorf("only %d values were compared", m.seen)
				}
			}
		})
	}
}
