package syncer_test

import (
	"context"
	"fmt"
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

// T1
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

// T7
func TestRarePageAfterManyFolds(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	k1, k2, k3 := m.start(), m.start(), m.start()
	_, _, _ = k1, k2, k3
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

// T2
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

// T3: the first commit of an instance arrives after the instance was folded.
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

// T3b: a restoration arrives after what it restored was folded.
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

// T4: a series without a number of one that has left is deleted.
func TestDeletedInline(t *testing.T) {
	t.Parallel()
	for _, numbered := range []bool{false, true} {
		m := newSim(t, 1)
		k := m.start()
		if numbered {
			k.words(counter, one)[backend.CounterInt].Add(1)
		} else {
			k.words(counter, `x="2"`)[backend.CounterInt].Add(1)
		}
		m.publish()
		a := m.start()
		m.procs = m.procs[:1]
		a.words(counter, one)[backend.CounterInt].Add(10)
		if err := a.s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := m.start()
		m.publish()
		if k.show(counter, one) == nil {
			t.Fatal("not shown")
		}
		if ok, err := k.s.DeleteSeries(counter, one); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if w := k.show(counter, one); w != nil {
			t.Errorf("numbered %v: shown after deletion: %d", numbered, w[0].Load())
		}
		m.steps(20)
		if w := k.show(counter, one); w != nil {
			t.Errorf("numbered %v: shown long after deletion: %d", numbered, w[0].Load())
		}
		if w := b.show(counter, one); w != nil {
			t.Errorf("numbered %v: b shows it long after deletion: %d", numbered, w[0].Load())
		}
	}
}

var _ = fmt.Sprint

// T4b: it got a number after it had left.
func TestDeletedAfterNumbering(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} { // it comes back
		for _, serves := range []bool{false, true} { // the process that has deleted it has pages
			m := newSim(t, 1)
			k := m.start()
			k.words(counter, `x="2"`)[backend.CounterInt].Add(1)
			m.publish()
			a := m.start()
			m.procs = m.procs[:1]
			a.words(counter, one)[backend.CounterInt].Add(10)
			if err := a.s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			k.words(counter, one)[backend.CounterInt].Add(1)
			b := m.start()
			m.publish()
			m.expect(11)
			if ok, err := k.s.DeleteSeries(counter, one); !ok || err != nil {
				t.Fatal(ok, err)
			}
			m.publish()
			if w := k.show(counter, one); serves && w != nil {
				t.Errorf("shown after deletion: %d", w[0].Load())
			}
			if again {
				k.words(counter, one)[backend.CounterInt].Add(3)
				m.publish()
				if w := k.show(counter, one); serves && (w == nil || w[0].Load() != 3) {
					t.Errorf("shown after deletion: %v, of 3", w)
				}
			}
			m.steps(20)
			for _, p := range []*proc{k, b} {
				switch w := p.show(counter, one); {
				case again && (w == nil || w[0].Load() != 3):
					t.Errorf("long after deletion %s shows %v, of 3", p.name, w)
				case !again && w != nil:
					t.Errorf("long after deletion %s shows %d", p.name, w[0].Load())
				}
			}
		}
	}
}

// T5: the store goes back by a few calls while a base is restored.
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

// T8
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
			_, _ = k2, k3
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

// A process that lives only for a moment reads the common heads and makes one commit, however large
// the directory is.
func TestLeavesAtOnce(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	k := m.start()
	for i := range 1000 {
		k.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Add(1)
	}
	m.steps(5)
	a := m.start()
	a.words(counter, `x="a"`)[backend.CounterInt].Add(10)
	calls := 0
	a.net.Next = func() backendtest.Fault { calls++; return backendtest.None }
	if err := a.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if calls != 2 {
		t.Errorf("%d calls of the store, want 2", calls)
	}
}
