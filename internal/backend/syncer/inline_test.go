package syncer_test

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// A series that only one that has left has published, without a number, is deleted.
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

// A series is deleted that one that has left has published without a number. It had got one since.
func TestDeletedAfterNumbering(t *testing.T) {
	t.Parallel()
	for _, again := range []bool{false, true} { // it comes back
		// The process that has deleted it has pages.
		for _, serves := range []bool{false, true} {
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
