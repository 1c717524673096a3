package syncer_test

import (
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

var (
	seeds = flag.Int("seeds", 100/share, "how many random histories are simulated")
	seed  = flag.Uint64("seed", 0, "the one history to simulate")
)

// Random histories of processes that start, count, pause, leave and are killed, a network with
// every kind of fault, and a store that loses everything or goes back to an older state: every page
// is exact within what is acknowledged, and at the end all pages are exact.
func TestHistories(t *testing.T) {
	t.Parallel()
	from, to := uint64(1), uint64(*seeds)
	if *seed > 0 {
		from, to = *seed, *seed
	}
	for n := from; n <= to; n++ {
		history(t, n)
	}
}

func history(t *testing.T, n uint64) {
	m := newSim(t, n)
	m.logf("seed %d", n)
	defer func() {
		if t.Failed() {
			t.Logf("-run TestHistories -seed %d", n)
		}
	}()
	m.start()
	m.start()
	old := m.store.Snapshot()
	for i := range 120 {
		if i%40 == 0 {
			m.faults = []float64{0, 0.05, 0.3}[m.rnd.IntN(3)]
		}
		at := m.rnd.IntN(len(m.procs))
		p := m.procs[at]
		if p.paused > 0 {
			p.paused--
			m.now = m.now.Add(time.Duration(m.rnd.IntN(2000)) * time.Millisecond)
			continue
		}
		switch k := m.rnd.IntN(100); {
		case k < 45:
			p.count()
			p.countMore()
			p.change()
			p.step()
		case k < 60:
			if page, err := p.page(); err == nil {
				m.check(p, page)
			}
		case k < 75:
			p.s.Maintain(context.Background())
			m.now = m.now.Add(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
		case k < 80:
			p.net.Arrive(context.Background())
		case k < 84:
			if len(m.procs) < 6 {
				m.start()
			}
		case k < 87:
			if len(m.procs) > 2 {
				m.kill(at)
			}
		case k < 90:
			if len(m.procs) > 2 {
				m.leave(at)
			}
		case k < 93:
			p.paused = 5 + m.rnd.IntN(10) // mostly longer than alive
		case k < 95:
			old = m.store.Snapshot()
		case k < 98: // one process has read everything, and the store goes back
			m.disaster(p, old)
			old = m.store.Snapshot()
		default:
			m.disaster(p, backendtest.Snapshot{})
			old = m.store.Snapshot()
		}
	}
	m.settle()
	m.finish()
}

// disaster resets the store to a state, just after p has read everything.
func (m *sim) disaster(p *proc, to backendtest.Snapshot) {
	faults := m.faults
	m.faults = 0
	defer func() { m.faults = faults }()
	page, err := p.page()
	if err != nil {
		return // not recovered yet
	}
	m.check(p, page)
	m.logf("the store goes back")
	m.store.Restore(to)
	// A process that has not read everything may act first.
	m.least = nil
	m.healing(p, m.calm())
}

// calm reports whether no instance has been silent for long, as the store sees it. One that has may
// be folded with its stored words before a survivor can restore what the store has lost: a limit
// that docs/redis.md describes.
func (m *sim) calm() bool {
	heads, err := m.store.Heads(context.Background(), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for name, h := range heads {
		if name[0] == 'i' && h.Age > alive/2 {
			return false
		}
	}
	return true
}

// healing keeps p, which knows everything, running until it has restored that. If kills is set,
// others may be killed meanwhile. Their pages are not checked.
func (m *sim) healing(p *proc, kills bool) {
	p.paused = 0
	for range 12 {
		order := slices.Clone(m.procs)
		m.rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, q := range order {
			if q.paused > 0 {
				if q.paused--; q.paused > 0 { // may resume during recovery
					continue
				}
			}
			if m.rnd.IntN(3) == 0 {
				q.count()
				q.countMore()
				q.change()
			}
			if kills && q != p && len(m.procs) > 2 && m.rnd.IntN(20) == 0 {
				m.killWithin(q)
				continue
			}
			if err := q.s.Step(context.Background()); err != nil {
				m.fail("%s: %v", q.name, err)
			}
		}
		if *seed > 0 {
			for _, l := range p.s.Dump() {
				p.logf("%s", l)
			}
		}
		m.now = m.now.Add(2 * time.Second)
	}
}
