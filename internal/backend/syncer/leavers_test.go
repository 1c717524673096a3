package syncer_test

import (
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// A process leaves, and before anybody has read what it has counted, the store loses something that
// everybody needs. Who notices that begins an epoch, and is killed. The counts of the one that left
// stay.
func TestLossAfterLeaving(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"directory", "base", "list", "meta"} {
		m := newSim(t, 1)
		k := m.start()
		k.words(counter, `x="2"`)[backend.CounterInt].Add(1)
		m.steps(3)
		a := m.start()
		m.procs = m.procs[:1]
		a.words(counter, one)[backend.CounterInt].Add(10)
		if err := a.s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		commit := &store.Commit{}
		switch lost {
		case "directory", "base", "meta":
			name := map[string]string{"directory": "dir", "base": "base", "meta": "meta"}[lost]
			commit.Heads = map[string][]byte{name: nil}
		case "list":
			commit.Drop = []string{"f"}
		}
		if err := m.store.Commit(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		b := m.start()
		b.words(counter, one)[backend.CounterInt].Add(1)
		b.s.Refresh(t.Context()) // fails, since not everything is restored
		m.procs = m.procs[:1]
		m.now = m.now.Add(2 * alive) // k was paused as well
		c := m.start()
		m.steps(40)
		for _, p := range []*proc{k, c} {
			if w := p.show(counter, one); w == nil || w[0].Load() < 10 {
				t.Errorf("%s lost: %s shows %v, not 10 or 11", lost, p.name, w)
			}
		}
	}
}
