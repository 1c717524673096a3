package syncer_test

import (
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// damagedHead is a head of an instance of this epoch that cannot be read.
func (m *attacked) damagedHead(name string) []byte {
	heads, err := m.mem.Heads(m.t.Context(), []string{name})
	if err != nil || len(heads[name].Value) < 8 {
		m.t.Fatalf("head %s: %v, %v", name, heads, err)
	}
	return append(heads[name].Value[:8:8], 0xff, 0xff)
}

// started returns another process that has counted.
func (m *attacked) started(labels string, n uint64) *syncer.Syncer {
	m.t.Helper()
	s := m.syncer()
	w, err := s.Cells(counter, labels)
	if err != nil {
		m.t.Fatal(err)
	}
	w[backend.CounterInt].Store(n)
	if err := s.Publish(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *attacked) headOf(s *syncer.Syncer) string {
	heads, _ := m.mem.Heads(m.t.Context(), nil)
	for name := range heads {
		if s.Is(name) {
			return name
		}
	}
	m.t.Fatal("no head")
	return ""
}

// A head that cannot be read any more keeps nobody from folding others, and those who have read
// the instance before restore it.
func TestDamagedHeadOfTheDead(t *testing.T) {
	t.Parallel()
	m := newAttacked(t, attackOf(t, "families"), 1)
	dead, left := m.started(`x="dead"`, 100), m.started(`x="left"`, 1000)
	reader := m.syncer()
	if n := m.page(reader); n != 1107 {
		t.Fatalf("the page has %d", n)
	}
	if n := m.page(m.honest); n != 1107 {
		t.Fatalf("the page has %d", n)
	}
	for range 5 { // the keeper notices that it is silent, but does not fold it yet
		m.clock = m.clock.Add(alive / 4)
		m.step()
		left.Step(t.Context())
	}
	name := m.headOf(dead)
	if err := m.mem.Commit(t.Context(), &store.Commit{Heads: map[string][]byte{name: m.damagedHead(name)}}); err != nil {
		t.Fatal(err)
	}
	if err := left.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := m.headOf(left)
	for range 80 {
		m.clock = m.clock.Add(alive / 4)
		m.step()
	}
	heads, _ := m.mem.Heads(t.Context(), nil)
	for _, name := range []string{name, gone} {
		if _, ok := heads[name]; ok {
			t.Errorf("head %s is still there", name)
		}
	}
	for _, s := range []*syncer.Syncer{m.honest, m.syncer()} {
		if n := m.page(s); n != 1107 || s.Damaged() != 0 {
			t.Errorf("the page has %d, %d damaged", n, s.Damaged())
		}
	}
}

