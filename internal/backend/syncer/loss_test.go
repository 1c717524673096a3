package syncer_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// values returns the values of a counter's series as a new process reads them, and the number of
// heads besides meta and base.
func values(t *testing.T, of *backendtest.Memory) (n map[string]uint64, instances int) {
	t.Helper()
	mem := new(backendtest.Memory) // a copy, since reading joins it
	mem.Restore(of.Snapshot())
	heads, err := mem.Heads(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name := range heads {
		if name[0] == 'i' {
			instances++
		}
	}
	s := syncer.NewManual(mem, store.Options{}, time.Now)
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = make(map[string]uint64)
	for _, g := range s.Walk() {
		for _, row := range g.Series {
			n[row.Labels] = row.Words[backend.CounterInt].Load()
		}
	}
	return n, instances
}

// Two processes fold the same dead instance at the same time: it counts once, wherever the calls of
// one interleave with those of the other, and whatever fault happens.
func TestTwoFold(t *testing.T) {
	t.Parallel()
	for fault := backendtest.None; fault <= backendtest.Late; fault++ {
		for at, more := 0, true; more; at++ {
			m := newSim(t, 1)
			a, b, dead := m.start(), m.start(), m.start()
			for i := range 300 { // two parts
				dead.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Add(uint64(i))
			}
			m.publish()
			m.procs = slices.Delete(m.procs, 2, 3)
			for range 19 { // both see its silence
				for _, p := range []*proc{a, b} {
					if err := p.s.Publish(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				m.now = m.now.Add(time.Second)
				if m.now.Sub(time.Unix(1e9, 0)) < 16*time.Second {
					for _, p := range []*proc{a, b} {
						p.s.Maintain(t.Context())
					}
				}
			}
			calls := 0
			a.net.Next = func() backendtest.Fault {
				if calls++; calls == at+1 {
					if err := b.s.Maintain(context.Background()); err != nil {
						t.Fatal(err)
					}
					return fault
				}
				return backendtest.None
			}
			a.s.Maintain(t.Context())
			more = calls > at
			a.net.Next = func() backendtest.Fault { return backendtest.None }
			a.net.Arrive(t.Context())
			for _, p := range []*proc{a, b} {
				p.show(counter, "")
				for _, g := range p.s.Walk() {
					for _, s := range g.Series {
						if want := strings.Trim(strings.TrimPrefix(s.Labels, "x="), `"`); fmt.Sprint(s.Words[0].Load()) != want {
							t.Fatalf("call %d, fault %d: %s shows %s as %d", at, fault, p.name, s.Labels, s.Words[0].Load())
						}
					}
					if len(g.Series) != 300 {
						t.Fatalf("call %d, fault %d: %d series", at, fault, len(g.Series))
					}
				}
			}
			heads, _ := m.store.Heads(t.Context(), nil)
			live, folded := 0, 0
			for name := range heads {
				switch name[0] {
				case 'i':
					live++
				case 'x':
					folded++
				}
			}
			if live != 2 || folded != 1 {
				t.Fatalf("call %d, fault %d: %d live and %d folded instances", at, fault, live, folded)
			}
			if at > 20 {
				t.Fatal("folding takes more than 20 calls")
			}
		}
	}
}

// A process is paused and folded, the store goes back to an earlier state, and the process
// publishes again before another one restores the base with its folded words: they count once,
// whatever state the store went back to.
func TestFoldedBeforeTheStoreWentBack(t *testing.T) {
	t.Parallel()
	for at := range 3 {
		m := newSim(t, 1)
		a, b := m.start(), m.start()
		const labels = `x="1"`
		b.words(counter, labels)[backend.CounterInt].Add(100)
		if err := b.s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The directory is complete, and a has not joined yet.
		states := []backendtest.Snapshot{m.store.Snapshot()}
		own := a.words(counter, labels)
		for range 2 {
			own[backend.CounterInt].Add(10)
			if err := a.s.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			states = append(states, m.store.Snapshot())
		}
		for range 30 {
			if err := b.s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.now = m.now.Add(time.Second)
		}
		heads, err := m.store.Heads(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if folded := slices.ContainsFunc(slices.Collect(maps.Keys(heads)), func(name string) bool { return name[0] == 'x' }); !folded {
			t.Fatal("a was not folded")
		}
		m.store.Restore(states[at])
		for range 2 {
			own[backend.CounterInt].Add(1)
			if err := a.s.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			for _, p := range []*proc{b, a} {
				if err := p.s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			m.now = m.now.Add(time.Second)
		}
		for _, p := range m.procs {
			if n := p.show(counter, labels)[backend.CounterInt].Load(); n != 122 {
				t.Errorf("back to state %d: %s shows %d, of 122", at, p.name, n)
			}
		}
	}
}

// A store loses everything, and a process is killed while it publishes again: a survivor does not
// discard what it had read of that process in favour of a part of it.
func TestKilledWhilePublishingAgain(t *testing.T) {
	t.Parallel()
	const series = 600 // three parts
	for lost := 1; lost < 20; lost++ {
		m := newSim(t, 1)
		a, b := m.start(), m.start()
		a.s.SetPiece(1)
		for i := range series {
			a.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Store(1)
		}
		m.publish()
		if b.show(counter, `x="0"`) == nil {
			t.Fatal("b has not read what a has published")
		}
		m.store.Restore(backendtest.Snapshot{})
		m.now = m.now.Add(3 * time.Second)
		calls := 0
		a.net.Next = func() backendtest.Fault {
			if calls++; calls >= lost {
				return backendtest.LoseRequest
			}
			return backendtest.None
		}
		published := a.s.Publish(t.Context()) == nil
		m.procs = m.procs[1:]
		for range 20 {
			if err := b.s.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.now = m.now.Add(2 * time.Second)
		}
		if n, instances := values(t, m.store); len(n) != series || instances != 1 {
			t.Errorf("a was killed in call %d of its publication: %d series are left, and %d instances", lost, len(n), instances)
		}
		if published {
			return
		}
	}
	t.Error("a has not published again in 20 calls")
}

// Processes add thousands of series in many commits while others add the same ones and new ones
// appear: each is added once.
func TestListedTogether(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	const series = 5000
	count := func(p *proc, from, to int) {
		for i := from; i < to; i++ {
			p.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Store(1)
		}
	}
	count(a, 0, series-300)
	count(b, 0, 10)
	calls, more := 0, 10
	a.net.Next = func() backendtest.Fault {
		if calls++; calls%3 == 0 && more+300 < series {
			count(b, series-more-300, series-more) // in reverse
			more += 300
			if err := b.s.Publish(context.Background()); err != nil {
				t.Error(err)
			}
			count(a, series-20*calls, series-20*calls+20)
		}
		return backendtest.None
	}
	a.s.Publish(t.Context()) // may have lost all conflicts before
	a.net.Next = nil
	count(a, 0, series)
	count(b, 0, series)
	m.publish()
	n, _ := values(t, m.store)
	for i := range series {
		if labels := fmt.Sprintf("x=%q", fmt.Sprint(i)); n[labels] != 2 {
			t.Fatalf("%s is %d", labels, n[labels])
		}
	}
	if listed := a.s.Listed(); len(n) != series || listed != series {
		t.Errorf("%d series, of which %d are listed", len(n), listed)
	}
}

// A process has set a gauge, reads the heads for that, and finds that the store has lost
// everything: it publishes everything it has, not just the series that others have already added to
// the directory.
func TestLossFoundBySet(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	b.words(counter, `x="1"`)[backend.CounterInt].Store(1)
	for i := range 10 {
		a.words(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))[backend.CounterInt].Store(1)
	}
	w := a.words(shared, "")
	m.publish()
	b.show(counter, "")
	m.store.Restore(backendtest.Snapshot{})
	m.procs = []*proc{b}
	m.publish()
	w[backend.GaugeFlags].Or(backend.GaugeIsSet)
	w[backend.GaugeValue].Store(math.Float64bits(3))
	if err := a.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 20 { // a is dead
		if err := b.s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.now = m.now.Add(2 * time.Second)
	}
	if n, instances := values(t, m.store); len(n) != 11 || n[`x="1"`] != 2 || instances != 1 {
		t.Errorf("%v are left, and %d instances", n, instances)
	}
}

// The first publication arrives after the process has given it up: the process accepts the join
// number that the store has for it.
func TestJoinedLate(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	if err := b.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.words(counter, `x="1"`)[backend.CounterInt].Store(1)
	if err := a.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := m.start()
	c.words(counter, `x="1"`)[backend.CounterInt].Store(1)
	if err := c.s.Maintain(t.Context()); err != nil { // only has to publish now
		t.Fatal(err)
	}
	calls := 0
	c.net.Next = func() backendtest.Fault {
		if calls++; calls%2 == 1 { // a commit; readings of the heads come in between
			return backendtest.Late
		}
		return backendtest.None
	}
	for range 20 {
		if c.s.Publish(t.Context()) == nil {
			t.Fatal("it was not late")
		}
	}
	c.net.Next = nil
	c.net.Arrive(t.Context())
	if err := c.s.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.s.Joined() <= a.s.Joined() {
		t.Errorf("it has joined as number %d, after %d", c.s.Joined(), a.s.Joined())
	}
}
