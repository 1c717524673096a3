package syncer_test

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// A process is away while the store goes back and the directory changes often.
func TestAwayForManyVersions(t *testing.T) {
	t.Parallel()
	for _, many := range []int{10, 300} {
		m := newSim(t, 1)
		q := m.start()
		q.words(counter, `x="2"`)[backend.CounterInt].Add(1)
		m.publish()
		old := m.store.Snapshot()
		p := m.start()
		p.words(counter, one)[backend.CounterInt].Add(10)
		if err := p.s.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		q.show(counter, one)
		m.store.Restore(old)
		for i := range many {
			q.words(counter, fmt.Sprintf("x=%q", fmt.Sprint("q", i)))[backend.CounterInt].Add(1)
			if err := q.s.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		m.steps(20)
		m.expect(10)
	}
}

// The store goes back to before a deletion, when the series has already come back.
func TestFormerLifeComesBack(t *testing.T) {
	t.Parallel()
	for _, pause := range []int{5, 150} {
		m := newSim(t, 1)
		k, a := m.start(), m.start()
		k.words(counter, one)[backend.CounterInt].Add(7)
		a.words(counter, `x="2"`)[backend.CounterInt].Add(1)
		m.publish()
		m.steps(3)
		old := m.store.Snapshot()
		k.show(counter, one)
		if ok, err := k.s.DeleteSeries(counter, one); !ok || err != nil {
			t.Fatal(ok, err)
		}
		m.publish()
		k.words(counter, one)[backend.CounterInt].Add(3)
		m.publish()
		m.steps(pause)
		m.store.Restore(old)
		m.steps(40)
		m.expect(3)
		if t.Failed() {
			t.Fatal(pause)
		}
	}
}

// A series is deleted while the store has lost everything, and before another process that also has
// it publishes again: the deletion stays.
func TestDeletedWhileLost(t *testing.T) {
	t.Parallel()
	for at := range 12 {
		m := newSim(t, 1)
		k, b := m.start(), m.start()
		k.words(counter, one)[backend.CounterInt].Add(1)
		b.words(counter, one)[backend.CounterInt].Add(10)
		m.publish()
		m.steps(3)
		m.expect(11)
		m.store.Restore(backendtest.Snapshot{})
		calls := 0
		k.net.Next = func() backendtest.Fault {
			if calls++; calls > at {
				return backendtest.LoseRequest
			}
			return backendtest.None
		}
		k.s.Refresh(t.Context()) // notices the loss, and gets no further
		k.net.Next = nil
		if ok, err := k.s.DeleteSeries(counter, one); !ok || err != nil {
			t.Fatal(ok, err)
		}
		k.s.Refresh(t.Context())
		m.steps(30)
		for _, p := range m.procs {
			if w := p.show(counter, one); w != nil {
				t.Errorf("%d calls: %s shows %d after the deletion", at, p.name, w[0].Load())
			}
		}
	}
}
