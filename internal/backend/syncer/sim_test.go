package syncer_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

var (
	counter   = &backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}}
	histogram = &backend.Family{Name: "h", Help: "H.", Kind: backend.Histogram, Buckets: []float64{1, 2}}
	shared    = &backend.Family{Name: "g", Help: "G.", Kind: backend.Gauge}
)

const alive = 10 * time.Second

// sim simulates processes with a clock, a network and a store.
type sim struct {
	t     testing.TB
	rnd   *rand.Rand
	now   time.Time
	store *backendtest.Memory
	procs []*proc
	n     int

	faults  float64
	least   map[string]uint64 // lower bounds for pages
	gone    map[string]bounds // counts of killed processes
	trace   []string
	clock   uint64 // for starts
	example uint64 // of the last exemplar
}

type bounds struct{ acked, counted uint64 }

// proc is a process and its counts by series.
type proc struct {
	*sim
	name   string
	s      *syncer.Syncer
	net    *backendtest.Faulty
	own    map[string]uint64
	acked  map[string]uint64
	paused int

	starts  map[*backend.Family]uint64
	example uint64 // last exemplar written
}

func newSim(t testing.TB, seed uint64) *sim {
	m := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1e9, 0),
		least: make(map[string]uint64), gone: make(map[string]bounds),
	}
	m.store = &backendtest.Memory{Now: func() time.Time { return m.now }}
	return m
}

func (m *sim) logf(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%v ", m.now.Sub(time.Unix(1e9, 0)))+fmt.Sprintf(format, args...))
}

func (m *sim) fail(format string, args ...any) {
	m.t.Helper()
	for _, l := range m.trace[max(0, len(m.trace)-200):] {
		m.t.Log(l)
	}
	m.t.Fatalf(format, args...)
}

func (m *sim) start() *proc {
	m.n++
	p := &proc{sim: m, name: fmt.Sprint("p", m.n), own: make(map[string]uint64), acked: make(map[string]uint64),
		starts: make(map[*backend.Family]uint64)}
	p.net = &backendtest.Faulty{Store: m.store, Next: func() backendtest.Fault {
		if m.rnd.Float64() < m.faults {
			return backendtest.Fault(1 + m.rnd.IntN(4))
		}
		return backendtest.None
	}}
	skew := time.Duration(m.n%5-2) * 7 * time.Hour // between hosts: never compared
	ids := rand.New(rand.NewPCG(m.rnd.Uint64(), uint64(m.n)))
	p.s = syncer.NewSeeded(p.net, store.Options{Alive: alive, Timeout: time.Hour}, func() time.Time { return m.now.Add(skew) }, ids.Uint64)
	if m.rnd.IntN(2) == 0 {
		p.s.SetPiece(1 + m.rnd.IntN(300)) // tiny, or less than a part
	}
	m.procs = append(m.procs, p)
	m.logf("%s starts", p.name)
	return p
}

func (p *proc) words(f *backend.Family, labels string) backend.Words {
	w, err := p.s.Cells(f, labels)
	if err != nil {
		p.t.Fatal(err)
	}
	return w
}

// count updates some metrics, as instruments do.
func (p *proc) count() {
	for range p.rnd.IntN(5) {
		label := p.name
		if p.rnd.IntN(2) == 0 {
			label = fmt.Sprint("s", p.rnd.IntN(600)) // more than a chunk
		}
		key, n := fmt.Sprintf("x=%q", label), 1+p.rnd.Uint64N(9)
		p.words(counter, key)[backend.CounterInt].Add(n)
		p.own["c"+key] += n
	}
	w := p.words(histogram, "")
	w[backend.HistogramBuckets+1].Add(1)
	addFloat(&w[backend.HistogramSum], 1.5)
	p.own["h"]++
	addFloat(&p.words(shared, "")[backend.GaugeValue], 2)
	p.own["g"] += 2
}

func addFloat(w interface {
	Load() uint64
	Store(uint64)
}, v float64) {
	w.Store(math.Float64bits(math.Float64frombits(w.Load()) + v))
}

func clone(m map[string]uint64) map[string]uint64 {
	c := make(map[string]uint64)
	for k, v := range m {
		c[k] = v
	}
	return c
}

// step is a publication or a full round of the background goroutine.
func (p *proc) step() error {
	do := p.s.Step
	if p.rnd.IntN(2) == 0 {
		do = p.s.Publish
	}
	before := clone(p.own)
	err := do(context.Background())
	p.logf("%s publishes: %v", p.name, err)
	if err == nil {
		p.acked = before
	}
	return err
}

// page returns the values of a page.
func (p *proc) page() (map[string]uint64, error) {
	err := p.s.Refresh(context.Background())
	p.logf("%s page: %v", p.name, err)
	if *seed > 0 {
		for _, l := range p.s.Dump() {
			p.logf("%s", l)
		}
	}
	if err != nil {
		return nil, err
	}
	p.acked = clone(p.own)
	page := make(map[string]uint64)
	for _, g := range p.s.Walk() {
		for _, s := range g.Series {
			if g.Parts != nil || g.Family.Sealed(s.Words) {
				continue
			}
			p.readMore(page, g.Family, s.Words)
			switch g.Family.Name {
			case counter.Name:
				page["c"+s.Labels] = s.Words[0].Load()
			case histogram.Name:
				page["h"] = s.Words[backend.HistogramBuckets+1].Load()
				if sum := math.Float64frombits(s.Words[0].Load()); sum != 1.5*float64(page["h"]) {
					p.fail("%s: sum %v of %d", p.name, sum, page["h"])
				}
			case shared.Name:
				page["g"] = uint64(math.Float64frombits(s.Words[0].Load()))
			}
		}
	}
	return page, nil
}

// check compares a page with the counts. lower allows the page to be behind the previous one.
func (m *sim) check(p *proc, page map[string]uint64) {
	m.t.Helper()
	low, high := make(map[string]uint64), make(map[string]uint64)
	for _, q := range m.procs {
		for k, v := range q.own {
			high[k] += v
			low[k] += q.acked[k]
		}
	}
	for k, b := range m.gone {
		low[k] += b.acked
		high[k] += b.counted
	}
	for k, v := range page {
		if v > high[k] {
			m.who(k)
			m.fail("%s shows %s %d, of %d counted", p.name, k, v, high[k])
		}
	}
	for k, v := range low {
		if page[k] < v {
			m.who(k)
			m.fail("%s shows %s %d, of %d acknowledged", p.name, k, page[k], v)
		}
	}
	for k, v := range m.least {
		if page[k] < v {
			m.fail("%s shows %s %d, after %d", p.name, k, page[k], v)
		}
	}
	m.least = page
}

// who logs whose counts a value consists of.
func (m *sim) who(key string) {
	for _, p := range m.procs {
		m.logf("%s counted %d, of which %d are acknowledged", p.name, p.own[key], p.acked[key])
	}
	m.logf("those that are gone: %+v", m.gone[key])
}

// kill ends a process at once. Its last request may or may not have arrived.
func (m *sim) kill(i int) {
	p := m.procs[i]
	m.logf("%s is killed", p.name)
	for k, v := range p.own {
		b := m.gone[k]
		m.gone[k] = bounds{b.acked + p.acked[k], b.counted + v}
	}
	m.procs = append(m.procs[:i], m.procs[i+1:]...)
}

// killWithin ends a process in the middle of a background round.
func (m *sim) killWithin(p *proc) {
	next, left := p.net.Next, m.rnd.IntN(12)
	p.net.Next = func() backendtest.Fault {
		if left--; left < 0 {
			return backendtest.LoseRequest
		}
		return backendtest.None
	}
	p.step()
	p.net.Next = next
	if *seed > 0 {
		for _, l := range p.s.Dump() {
			p.logf("%s", l)
		}
	}
	m.kill(slices.Index(m.procs, p))
}

// leave closes a process properly.
func (m *sim) leave(i int) {
	p := m.procs[i]
	faults := m.faults
	m.faults = 0
	err := p.s.Close(context.Background())
	m.faults = faults
	m.logf("%s leaves: %v", p.name, err)
	if err != nil {
		m.fail("%s: %v", p.name, err)
	}
	p.acked = clone(p.own)
	m.kill(i)
}

// settle runs all processes without faults until everything is restored and folded.
func (m *sim) settle() {
	m.t.Helper()
	m.faults = 0
	for _, p := range m.procs {
		p.net.Arrive(context.Background())
		p.paused = 0
	}
	for range 20 {
		for _, p := range m.procs {
			if err := p.s.Step(context.Background()); err != nil {
				m.fail("%s: %v", p.name, err)
			}
			p.acked = clone(p.own)
		}
		m.now = m.now.Add(2 * time.Second)
	}
	for _, p := range m.procs {
		page, err := p.page()
		if err != nil {
			m.fail("%s: %v", p.name, err)
		}
		m.check(p, page)
	}
}
