package syncer_test

import (
	"context"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// churn lets n processes come and leave, while the present ones run.
func (m *sim) churn(n int) {
	m.t.Helper()
	for i := range n {
		p := m.start()
		m.procs = m.procs[:len(m.procs)-1]
		p.words(counter, `x="churn"`)[backend.CounterInt].Add(1)
		if err := p.s.Close(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		if i%50 == 49 {
			m.steps(12)
		}
	}
	m.steps(40)
}

// steps lets n seconds pass for the processes that run.
func (m *sim) steps(n int) {
	m.t.Helper()
	for range n {
		m.now = m.now.Add(time.Second)
		for _, p := range m.procs {
			if p.paused > 0 {
				continue
			}
			if err := p.s.Step(m.t.Context()); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

const one = `x="1"`

// expect checks what all pages show for that series.
func (m *sim) expect(want uint64) {
	m.t.Helper()
	for _, p := range m.procs {
		w := p.show(counter, one)
		n := uint64(0)
		if w != nil {
			n = w[backend.CounterInt].Load()
		}
		if n != want {
			m.t.Errorf("%s shows %d, of %d", p.name, n, want)
		}
	}
}

// The store loses the commit by which a process joined, after many folds that it has not heard of:
// it was not folded.
func TestJoinLostAfterManyFolds(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	k := m.start()
	k.words(counter, one)[backend.CounterInt].Add(1)
	m.publish()
	m.churn(600)
	old := m.store.Snapshot()
	a := m.start()
	a.words(counter, one)[backend.CounterInt].Add(10)
	if err := a.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.store.Restore(old)
	m.steps(5)
	m.expect(11)
}

// A process that seldom has a page finds that an instance is gone which was folded long ago: it
// does not take it for lost.
func TestRarePageAfterManyFolds(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	for range 3 { // keepers
		m.start()
	}
	m.steps(10)
	b := m.start()
	m.publish()
	a := m.start()
	m.procs = m.procs[:len(m.procs)-1]
	a.words(counter, one)[backend.CounterInt].Add(10)
	if err := a.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.show(counter, one)
	if err := a.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.churn(600)
	for range 20 {
		if err := b.s.Refresh(t.Context()); err != nil {
			t.Log("no page: ", err)
		}
		m.steps(1)
	}
	m.expect(10)
}

// A process that was folded publishes again, after the store has lost that, while another process
// restores the base.
func TestPublishedWhileBaseIsRestored(t *testing.T) {
	t.Parallel()
	for at := range 8 {
		m := newSim(t, 1)
		k := m.start()
		k.words(counter, one)[backend.CounterInt].Add(1)
		m.publish()
		old := m.store.Snapshot()
		a := m.start()
		a.words(counter, one)[backend.CounterInt].Add(10)
		m.publish()
		k.show(counter, one)
		a.paused = 1
		m.steps(40)
		k.show(counter, one)
		m.store.Restore(old)
		calls := 0
		a.net.Next = func() backendtest.Fault {
			if calls++; calls == at+1 {
				for range 2 {
					k.s.Step(context.Background())
				}
			}
			return backendtest.None
		}
		if err := a.s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.net.Next = nil
		a.paused = 0
		m.steps(40)
		m.expect(11)
		if t.Failed() {
			t.Fatal("at", at)
		}
	}
}

// The first commit of an instance arrives after the instance was folded.
func TestJoinsAfterItsFold(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	k := m.start()
	k.words(counter, one)[backend.CounterInt].Add(1)
	m.publish()
	a := m.start()
	m.procs = m.procs[:1]
	a.words(counter, one)[backend.CounterInt].Add(10)
	calls := 0
	a.net.Next = func() backendtest.Fault {
		if calls++; calls == 2 { // after the heads; it does not read the directory
			return backendtest.Late
		}
		return backendtest.None
	}
	if err := a.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.net.Next = nil
	m.steps(8)
	m.expect(11)
	a.net.Arrive(t.Context())
	m.steps(2)
	m.expect(11)
	m.steps(40)
	m.expect(11)
}

// A restoration arrives again after what it restored was folded.
func TestRestoredAfterItsFold(t *testing.T) {
	t.Parallel()
	for at := range 16 {
		m := newSim(t, 1)
		k := m.start()
		k.words(counter, one)[backend.CounterInt].Add(1)
		m.publish()
		old := m.store.Snapshot()
		a := m.start()
		a.words(counter, one)[backend.CounterInt].Add(10)
		m.publish()
		k.show(counter, one)
		m.procs = m.procs[:1]
		m.store.Restore(old)
		calls := 0
		k.net.Next = func() backendtest.Fault {
			if calls++; calls == at+1 {
				return backendtest.Late
			}
			return backendtest.None
		}
		for range 10 {
			k.s.Step(t.Context())
			m.now = m.now.Add(time.Second)
		}
		k.net.Next = nil
		m.steps(25)
		m.expect(11)
		k.net.Arrive(t.Context())
		m.steps(2)
		m.expect(11)
		if t.Failed() {
			t.Fatal("at", at)
		}
	}
}

// The store goes back by a few calls while a base is restored: it is restored again, and not with
// numbers that other series have got.
func TestBackWhileBaseIsRestored(t *testing.T) {
	t.Parallel()
	for at := range 40 {
		for back := 1; back <= 3; back++ {
			m := newSim(t, 1)
			k := m.start()
			k.words(counter, `x="2"`)[backend.CounterInt].Add(1)
			m.publish()
			old := m.store.Snapshot()
			a := m.start()
			a.words(counter, one)[backend.CounterInt].Add(10)
			m.publish()
			k.show(counter, one)
			m.procs = m.procs[:1]
			m.steps(25)
			k.show(counter, one)
			b := m.start()
			m.procs = m.procs[:1]
			m.store.Restore(old)
			calls := 0
			var states []backendtest.Snapshot
			k.net.Next = func() backendtest.Fault {
				states = append(states, m.store.Snapshot())
				if calls++; calls == at+1 {
					m.store.Restore(states[max(0, len(states)-1-back)])
					b.words(counter, `x="b"`)[backend.CounterInt].Add(5)
					b.s.Publish(context.Background())
				}
				return backendtest.None
			}
			for range 2 {
				k.s.Step(t.Context())
				m.now = m.now.Add(time.Second)
			}
			k.net.Next = nil
			m.procs = append(m.procs, b)
			m.steps(20)
			m.expect(10)
			want := uint64(5)
			if calls < at+1 {
				want = 0
			}
			if n := k.show(counter, `x="b"`); want > 0 && (n == nil || n[0].Load() != 5) {
				t.Errorf("b: %v", n)
			}
			if n := k.show(counter, `x="2"`); n[0].Load() != 1 {
				t.Errorf("2: %v", n)
			}
			if t.Failed() {
				t.Fatal("at", at, "back", back, "calls", calls)
			}
		}
	}
}

// The store loses everything. A process that seldom has a page is the first to restore what it
// knows, of instances that were folded long ago, too.
func TestStaleOrphansAfterLoss(t *testing.T) {
	t.Parallel()
	for _, many := range []int{100, 600} {
		for _, first := range []bool{false, true} {
			m := newSim(t, 1)
			k := m.start()
			m.steps(10)
			k.words(counter, `x="2"`)[backend.CounterInt].Add(1)
			k2, k3 := m.start(), m.start()
			m.steps(10)
			b := m.start()
			m.publish()
			a := m.start()
			m.procs = m.procs[:len(m.procs)-1]
			a.words(counter, one)[backend.CounterInt].Add(10)
			if err := a.s.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.show(counter, one)
			if err := a.s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.churn(many)
			k.show(counter, one)
			m.store.Restore(backendtest.Snapshot{})
			if first {
				m.procs = []*proc{b, k, k2, k3}
			}
			for _, p := range []*proc{k, k2, k3} {
				p.paused = 1
			}
			m.steps(6)
			for _, p := range []*proc{k, k2, k3} {
				p.paused = 0
			}
			m.steps(60)
			m.expect(10)
			if t.Failed() {
				t.Fatal(many, first)
			}
		}
	}
}
