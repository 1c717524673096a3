package syncer_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// publishTens makes each process publish a counter series of its own: 10, 11, and so on.
func (m *sim) publishTens() {
	for i, p := range m.procs {
		p.words(counter, fmt.Sprintf("x=%q", p.name))[backend.CounterInt].Store(uint64(10 + i))
	}
	m.publish()
}

// watch lets the processes see the silence of others for so long that they are about to fold them.
func (m *sim) watch() {
	for range 14 {
		m.now = m.now.Add(time.Second)
		for _, p := range m.procs {
			if err := p.s.Step(m.t.Context()); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// The store goes back to a state before one instance was folded, and a process that has not heard
// of the fold folds another one. Two processes that restore their known bases do not replace each
// other's for ever.
func TestTwoBases(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b, killed, left := m.start(), m.start(), m.start(), m.start()
	m.publishTens()
	m.procs = []*proc{a, b, left}
	m.watch()
	before := m.store.Snapshot()
	left.words(counter, `x="p4"`)[backend.CounterInt].Add(7)
	if err := left.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := a.show(counter, `x="p4"`); n == nil || n[backend.CounterInt].Load() != 20 {
		t.Fatal("a has not read what was left behind")
	}
	m.store.Restore(before)
	m.now = m.now.Add(2 * time.Second)
	m.procs = []*proc{b, a}
	for range 20 {
		for _, p := range m.procs {
			if err := p.s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		m.now = m.now.Add(time.Second)
	}
	want := map[string]uint64{`x="p1"`: 10, `x="p2"`: 11, `x="p3"`: 12, `x="p4"`: 20}
	if n, instances := values(t, m.store); !maps.Equal(n, want) || instances != 2 {
		t.Errorf("%v are left, and %d instances with %s", n, instances, killed.name)
	}
	for _, p := range m.procs {
		if err := p.s.Refresh(t.Context()); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

// A process finds another base, which lacks a fold that it knows, and cannot read it before the
// store loses everything: it still knows its own base.
func TestOtherBaseNotRead(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b, killed, left := m.start(), m.start(), m.start(), m.start()
	m.publishTens()
	m.procs = []*proc{a, b, left}
	m.watch()
	before := m.store.Snapshot()
	if err := left.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.show(counter, "")
	m.store.Restore(before)
	m.now = m.now.Add(2 * time.Second)
	if err := b.s.Step(t.Context()); err != nil { // folds the killed one
		t.Fatal(err)
	}
	calls := 0
	a.net.Next = func() backendtest.Fault {
		if calls++; calls > 1 {
			return backendtest.LoseRequest
		}
		return backendtest.None
	}
	if err := a.s.Maintain(t.Context()); err == nil || calls < 2 {
		t.Fatalf("%v after %d calls", err, calls)
	}
	a.net.Next = nil
	m.store.Restore(backendtest.Snapshot{})
	for range 20 { // no other process is left
		if err := a.s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.now = m.now.Add(2 * time.Second)
	}
	want := map[string]uint64{`x="p1"`: 10, `x="p2"`: 11, `x="p3"`: 12, `x="p4"`: 13}
	if n, instances := values(t, m.store); !maps.Equal(n, want) || instances != 1 {
		t.Errorf("%v are left of %s and the others, and %d instances", n, killed.name, instances)
	}
}

// For some time there were two servers. Each folded an instance, and then both folded the same one,
// so that their bases have equal versions: a process that moves to the other server reads its base
// as it is.
func TestBasesOfOneVersion(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b, w, x, y := m.start(), m.start(), m.start(), m.start(), m.start()
	m.publishTens()
	m.procs = []*proc{a, b, w, y}
	m.watch()
	common := m.store.Snapshot()
	m.now = m.now.Add(3 * time.Second)
	for _, p := range []*proc{y, b} {
		do := p.s.Close
		if p == b {
			do = p.s.Step
		}
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other := m.store.Snapshot()
	m.store.Restore(common)
	for _, p := range []*proc{w, a} {
		do := p.s.Close
		if p == a {
			do = p.s.Step
		}
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a.show(counter, "")
	m.store.Restore(other)
	for range 20 { // folds the rest, including b
		if err := a.s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.now = m.now.Add(time.Second)
	}
	for i, p := range []*proc{a, b, w, x, y} {
		labels := fmt.Sprintf("x=%q", p.name)
		if n, _ := values(t, m.store); n[labels] != uint64(10+i) {
			t.Errorf("%s is %d, of %d", labels, n[labels], 10+i)
		}
	}
}

// There were two servers for so long that neither base lists what was folded into the other one.
// All processes agree on the one that stays.
func TestOneBaseIsLeft(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		here, there int   // number of folded instances; here, a is folded too
		left        []int // winner
	}{
		{3, 2, []int{3}},
		{2, 4, []int{4}},
		{2, 3, []int{2, 3}}, // equal numbers: by id
	} {
		m := newSim(t, 1)
		a, b := m.start(), m.start()
		for _, p := range m.procs {
			p.words(counter, fmt.Sprintf("x=%q", p.name))[backend.CounterInt].Store(1)
		}
		m.publish()
		leave := func(n int) {
			for range n {
				p := m.start()
				p.words(counter, fmt.Sprintf("x=%q", p.name))[backend.CounterInt].Store(1)
				if err := p.s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		common := m.store.Snapshot()
		leave(c.there)
		m.now = m.now.Add(alive)
		if err := a.s.Step(t.Context()); err != nil { // folds them
			t.Fatal(err)
		}
		m.store.Restore(common)
		leave(c.here)
		for range 100 {
			if err := b.s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.now = m.now.Add(time.Second)
		}
		m.procs = []*proc{a, b}
		for i := range 200 {
			for _, p := range m.procs {
				if err := p.s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := p.s.Refresh(t.Context()); err != nil && i > 100 {
					t.Fatalf("%+v: %s: %v", c, p.name, err)
				}
			}
			m.now = m.now.Add(time.Second)
		}
		n, instances := values(t, m.store)
		if n[`x="p2"`] != 1 || instances != 2 || !slices.Contains(c.left, len(n)-2) {
			t.Errorf("%+v: %v are left, and %d instances", c, n, instances)
		}
	}
}
