package syncer_test

import (
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// A process joins, and a keeper writes that down, while a page is made from heads that were read
// before: nothing is lost.
func TestJoinWhilePageIsMade(t *testing.T) {
	t.Parallel()
	for at := range 8 { // the calls to the store that a page takes
		m := newSim(t, 1)
		keeper := m.start()
		keeper.words(counter, one)[backend.CounterInt].Add(1)
		m.steps(3)
		calls, joined := 0, false
		st := &calling{Store: m.store, call: func() {
			if calls++; calls != at+1 {
				return
			}
			joined = true
			p := m.start()
			p.words(counter, one)[backend.CounterInt].Add(2)
			for range 2 { // joins; and is written down
				if err := p.s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := keeper.s.Step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}}
		reader := syncer.NewManual(st, store.Options{Alive: alive}, func() time.Time { return m.now })
		if err := reader.Refresh(t.Context()); err != nil {
			t.Errorf("joined at call %d: %v", at, err)
		}
		calls = -10
		if err := reader.Refresh(t.Context()); err != nil || !joined && at < 5 {
			t.Errorf("afterwards: %v, joined %v", err, joined)
		}
	}
}

// The store loses the head of a dead instance, and nothing else: a process that has just started
// has no page without its counts.
func TestDeadHeadLost(t *testing.T) {
	t.Parallel()
	for _, silent := range []int{0, 5, 9, 12} { // seconds since it died
		m := newSim(t, 1)
		keeper, dead := m.start(), m.start()
		keeper.words(counter, one)[backend.CounterInt].Add(1)
		dead.words(counter, one)[backend.CounterInt].Add(10)
		m.steps(3)
		keeper.show(counter, one)
		m.procs = m.procs[:1]
		m.steps(silent)
		heads, err := m.store.Heads(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name := range heads {
			if name[0] == 'i' && !keeper.s.Is(name) {
				if err := m.store.Commit(t.Context(), &store.Commit{Heads: map[string][]byte{name: nil}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		fresh := m.start()
		if err := fresh.s.Refresh(t.Context()); err == nil {
			t.Errorf("silent for %d s: a page with %v", silent, fresh.show(counter, one))
		}
		m.steps(10)
		m.expect(11)
	}
}
