package syncer_test

import (
	"slices"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// damagedHead is a head of an instance of this epoch that cannot be read.
func (m *attacked) damagedHead() []byte {
	heads, err := m.mem.Heads(m.t.Context(), []string{"meta"})
	if err != nil || len(heads["meta"].Value) < 9 {
		m.t.Fatalf("meta: %v, %v", heads, err)
	}
	return append(heads["meta"].Value[1:9:9], 0xff, 0xff)
}

// started returns another process that has counted.
func (m *attacked) started(labels string, n uint64) *syncer.Syncer {
	m.t.Helper()
	s := m.syncer()
	m.publish(s, labels, n)
	return s
}

// publish has a process count up to n, and publish that.
func (m *attacked) publish(s *syncer.Syncer, labels string, n uint64) {
	m.t.Helper()
	w, err := s.Cells(counter, labels)
	if err != nil {
		m.t.Fatal(err)
	}
	w[backend.CounterInt].Store(n)
	if err := s.Publish(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
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
	if err := m.mem.Commit(t.Context(), &store.Commit{Heads: map[string][]byte{name: m.damagedHead()}}); err != nil {
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

// parts changes the parts of an instance in the store.
func (m *attacked) parts(name string, change func(b []byte) []byte) {
	m.t.Helper()
	for _, n := range []uint32{0, 1} {
		k := store.Key{Group: name, Part: n}
		parts, err := m.mem.Get(m.t.Context(), []store.Key{k})
		if err != nil {
			m.t.Fatal(err)
		}
		if parts[0] == nil {
			continue
		}
		if err := m.mem.Commit(m.t.Context(), &store.Commit{Parts: map[store.Key][]byte{k: change(parts[0])}}); err != nil {
			m.t.Fatal(err)
		}
	}
}

// Of a part that cannot be read, pages show what was read of it before: nothing decreases, and the
// next version is not counted in addition.
func TestDamagedPartKnownBefore(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func([]byte) []byte{
		"no seq":   func([]byte) []byte { return []byte{0x81} },
		"a record": func(b []byte) []byte { return append(b[:2:2], 0xff, 0xff, 0xff) },
	} {
		for _, ends := range []string{"changes", "dies", "store is lost"} {
			m := newAttacked(t, attackOf(t, "families"), 1)
			a := m.started(`x="a"`, 100)
			name := m.headOf(a)
			if n := m.page(m.honest); n != 107 {
				t.Fatalf("the page has %d", n)
			}
			m.publish(a, `x="a"`, 101)
			m.parts(name, damage)
			if n := m.page(m.honest); n != 107 || m.honest.Damaged() != 1 {
				t.Errorf("%s, %s: the page has %d, %d damaged; must be 107 and 1", what, ends, n, m.honest.Damaged())
			}
			want := uint64(107)
			switch ends {
			case "changes":
				m.publish(a, `x="a"`, 102)
				want = 109
			case "dies":
				for range 40 {
					m.clock = m.clock.Add(alive / 4)
					m.step()
				}
			default:
				m.mem.Restore(backendtest.Snapshot{})
				for range 16 {
					m.clock = m.clock.Add(alive / 4)
					m.honest.Step(t.Context())
				}
			}
			for _, s := range []*syncer.Syncer{m.honest, m.syncer()} {
				if n := m.page(s); n != want || s.Damaged() != 0 {
					t.Errorf("%s, %s: the page has %d in the end, %d damaged; must be %d", what, ends, n, s.Damaged(), want)
				}
			}
		}
	}
}

// What another process has restored of an instance has none of the parts that were damaged before.
func TestRestoredAfterDamage(t *testing.T) {
	t.Parallel()
	m := newAttacked(t, attackOf(t, "families"), 1)
	a := m.started(`x="a"`, 100)
	name := m.headOf(a)
	m.parts(name, func([]byte) []byte { return []byte{0x81} })
	reader := m.syncer()
	for _, s := range []*syncer.Syncer{m.honest, reader} {
		if n := m.page(s); n != 7 || s.Damaged() != 1 {
			t.Fatalf("the page has %d, %d damaged", n, s.Damaged())
		}
	}
	if err := m.mem.Commit(t.Context(), &store.Commit{Heads: map[string][]byte{name: nil}}); err != nil {
		t.Fatal(err)
	}
	m.page(m.honest) // notices
	for range 4 {
		m.clock = m.clock.Add(alive / 4)
		m.step()
	}
	if heads, _ := m.mem.Heads(t.Context(), nil); heads[name].Value == nil {
		t.Fatal("nobody has restored the instance")
	}
	if n := m.page(reader); n != 7 || reader.Damaged() != 0 {
		t.Errorf("the page has %d, %d damaged; must be 7 and none", n, reader.Damaged())
	}
}

// Who has read an instance before a part was damaged restores it, not who has read it after.
func TestRestoredByWhoKnows(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} { // who notices first
		m := newAttacked(t, attackOf(t, "families"), 1)
		a := m.started(`x="a"`, 100)
		reader := m.started(`x="r"`, 1000)
		name := m.headOf(a)
		if n := m.page(reader); n != 1107 {
			t.Fatalf("the page has %d", n)
		}
		m.parts(name, func([]byte) []byte { return []byte{0x81} })
		if n := m.page(m.honest); n != 1007 || m.honest.Damaged() != 1 {
			t.Fatalf("the page has %d, %d damaged", n, m.honest.Damaged())
		}
		m.mem.Restore(backendtest.Snapshot{})
		all := []*syncer.Syncer{m.honest, reader}
		if first {
			slices.Reverse(all)
		}
		for range 24 {
			for _, s := range all {
				s.Step(t.Context())
			}
			m.clock = m.clock.Add(alive / 4)
		}
		for _, s := range all {
			if n := m.page(s); n != 1107 || s.Damaged() != 0 {
				t.Errorf("the page has %d, %d damaged; must be 1107 and none", n, s.Damaged())
			}
		}
	}
}

// An instance that the store has lost is restored in place of a head that cannot be read.
func TestRestoredOverDamage(t *testing.T) {
	t.Parallel()
	m := newAttacked(t, attackOf(t, "families"), 1)
	name := m.headOf(m.started(`x="a"`, 100))
	if n := m.page(m.honest); n != 107 {
		t.Fatalf("the page has %d", n)
	}
	m.mem.Restore(backendtest.Snapshot{})
	m.step() // begins an epoch
	if err := m.mem.Commit(t.Context(), &store.Commit{Heads: map[string][]byte{name: m.damagedHead()}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*syncer.Syncer{m.honest, m.syncer()} {
		if n := m.page(s); n != 107 || s.Damaged() != 0 {
			t.Errorf("the page has %d, %d damaged; must be 107 and none", n, s.Damaged())
		}
	}
}

// An empty head of the directory does not pass for what a process knows that knows none.
func TestEmptyDirectory(t *testing.T) {
	t.Parallel()
	m := newAttacked(t, attackOf(t, "families"), 1)
	m.overwrite(func(name string) bool { return name == "dir" }, []byte{})
	m.honest = m.started(`x="new"`, 1)
	if n := m.page(m.honest); n != 1 || m.honest.Damaged() != 0 {
		t.Errorf("the page has %d, %d damaged; must be 1 and none", n, m.honest.Damaged())
	}
	if heads, _ := m.mem.Heads(t.Context(), []string{"dir"}); len(heads["dir"].Value) == 0 {
		t.Error("the directory has not been begun again")
	}
}

// An instance that was folded with words that it does not know any more, because the store had gone
// back, and cannot read, because they were damaged since, counts nothing twice.
func TestRejoinAfterDamage(t *testing.T) {
	t.Parallel()
	m := newAttacked(t, attackOf(t, "families"), 1)
	a := m.started(`x="a"`, 100)
	name := m.headOf(a)
	if n := m.page(m.honest); n != 107 {
		t.Fatalf("the page has %d", n)
	}
	m.publish(a, `x="a"`, 200)
	// The store loses that, the other process restores what it knows, and folds it.
	m.mem.Restore(backendtest.Snapshot{})
	folded := false
	for range 40 {
		m.clock = m.clock.Add(alive / 4)
		m.step()
		heads, _ := m.mem.Heads(t.Context(), nil)
		if _, folded = heads["x"+name[1:]]; folded {
			break
		}
	}
	if !folded {
		t.Fatal("nobody has folded the instance")
	}
	m.parts(name, func([]byte) []byte { return []byte{0x81} })
	for range 4 {
		a.Step(t.Context())
		m.clock = m.clock.Add(alive / 4)
	}
	if n := m.page(m.honest); n > 207 {
		t.Errorf("the page has %d, of 207 counted", n)
	}
}
