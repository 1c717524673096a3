package interleave

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// litmus explores two actors, and returns what their results can be. Each stores its own in a word
// of the specification.
func litmus(t *testing.T, weak bool, f func(m *Model) (a, b func(*Actor) Value)) string {
	t.Helper()
	m := &Model{Weak: weak}
	results := []Word{m.Word("result 0", 0), m.Word("result 1", 0)}
	a, b := f(m)
	for i, run := range []func(*Actor) Value{a, b} {
		m.Actor(m.Process(fmt.Sprint(i)), fmt.Sprint(i), func(a *Actor) {
			result := run(a)
			a.Ghost(func(v View) error { v.Set(results[i], result); return nil })
		})
	}
	seen := make(map[string]bool)
	m.End = func(v View) error {
		seen[fmt.Sprintf("%d%d", v.Get(results[0]), v.Get(results[1]))] = true
		return nil
	}
	if _, err := m.Explore(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

// The memory allows what arm64 allows for Go's atomic operations and for plain accesses between
// them, and the sequentially consistent results only without Weak.
func TestLitmus(t *testing.T) {
	type test struct {
		name, strong, weak string
		actors             func(m *Model) (a, b func(*Actor) Value)
	}
	none := func(*Actor) Value { return 0 }
	for _, l := range []test{
		{"store buffering, atomic", "01 10 11", "01 10 11", func(m *Model) (a, b func(*Actor) Value) {
			x, y := m.Word("x", 0), m.Word("y", 0)
			return func(a *Actor) Value { a.Store(x, 1); return a.Load(y) }, func(a *Actor) Value { a.Store(y, 1); return a.Load(x) }
		}},
		{"store buffering, plain", "01 10 11", "00 01 10 11", func(m *Model) (a, b func(*Actor) Value) {
			x, y := m.Plain("x", 0), m.Plain("y", 0)
			return func(a *Actor) Value { a.PlainStore(x, 1); return a.PlainLoad(y) }, func(a *Actor) Value { a.PlainStore(y, 1); return a.PlainLoad(x) }
		}},
		// 1: the flag is seen and the content is not; 2: both are
		{"message, published by a store", "00 02", "00 02", func(m *Model) (a, b func(*Actor) Value) {
			x, flag := m.Plain("x", 0), m.Word("flag", 0)
			return func(a *Actor) Value { a.PlainStore(x, 1); a.Store(flag, 1); return 0 }, received(x, flag, true)
		}},
		{"message, published by a compare-and-swap", "00 02", "00 02", func(m *Model) (a, b func(*Actor) Value) {
			x, flag := m.Plain("x", 0), m.Word("flag", 0)
			return func(a *Actor) Value { a.PlainStore(x, 1); a.CompareAndSwap(flag, 0, 1); return 0 }, received(x, flag, true)
		}},
		{"message, published plainly", "00 02", "00 01 02", func(m *Model) (a, b func(*Actor) Value) {
			x, flag := m.Plain("x", 0), m.Plain("flag", 0)
			return func(a *Actor) Value { a.PlainStore(x, 1); a.PlainStore(flag, 1); return 0 }, received(x, flag, true)
		}},
		{"message, received plainly", "00 02", "00 01 02", func(m *Model) (a, b func(*Actor) Value) {
			x, flag := m.Plain("x", 0), m.Plain("flag", 0)
			return func(a *Actor) Value { a.Store(x, 1); a.Store(flag, 1); return 0 }, received(x, flag, false)
		}},
		{"a plain load and an atomic one after it", "00 02 03", "00 01 02 03", func(m *Model) (a, b func(*Actor) Value) {
			x, y := m.Plain("x", 0), m.Word("y", 0)
			return func(a *Actor) Value { a.Store(y, 1); a.Store(x, 1); return 0 }, func(a *Actor) Value {
				got := a.PlainLoad(x)
				return got*1 + a.Load(y)*2
			}
		}},
		{"a compare-and-swap that fails publishes nothing", "00 02", "00 01 02", func(m *Model) (a, b func(*Actor) Value) {
			x, flag, other := m.Plain("x", 0), m.Plain("flag", 0), m.Word("other", 1)
			return func(a *Actor) Value {
				a.PlainStore(x, 1)
				a.CompareAndSwap(other, 0, 1)
				a.PlainStore(flag, 1)
				return 0
			}, received(x, flag, true)
		}},
		// never 1: the new value, and then the old one
		{"one word", "00 02 03", "00 02 03", func(m *Model) (a, b func(*Actor) Value) {
			x := m.Plain("x", 0)
			return func(a *Actor) Value { a.PlainStore(x, 1); return 0 }, func(a *Actor) Value {
				first := a.PlainLoad(x)
				return first + a.PlainLoad(x)*2
			}
		}},
		{"its own stores", "10", "10", func(m *Model) (a, b func(*Actor) Value) {
			x := m.Plain("x", 0)
			return func(a *Actor) Value { a.PlainStore(x, 1); return a.PlainLoad(x) }, none
		}},
	} {
		if got := litmus(t, false, l.actors); got != l.strong {
			t.Errorf("%s: %s, want %s", l.name, got, l.strong)
		}
		if got := litmus(t, true, l.actors); got != l.weak {
			t.Errorf("%s, reordered: %s, want %s", l.name, got, l.weak)
		}
	}
}

// received returns an actor that looks whether a flag is set, and if so returns 1 plus the content.
func received(x, flag Word, atomically bool) func(*Actor) Value {
	return func(a *Actor) Value {
		read := a.PlainLoad
		if atomically {
			read = a.Load
		}
		if read(flag) == 0 {
			return 0
		}
		return 1 + a.PlainLoad(x)
	}
}

// All interleavings are explored: two actors that take five steps each, none of which commute, have
// as many executions as there are ways to choose five of ten.
func TestExecutions(t *testing.T) {
	m := new(Model)
	w := m.Word("w", 0)
	for i := range 2 {
		m.Actor(m.Process(fmt.Sprint(i)), fmt.Sprint(i), func(a *Actor) {
			for range 5 {
				a.Add(w, Value(1+i))
			}
		})
	}
	r, err := m.Explore()
	if err != nil || r.Executions != 252 {
		t.Fatal(r, err)
	}
}

// A lock is exclusive, is released when its holder is killed, and what waits for ever is an error.
func TestLocksAndKills(t *testing.T) {
	build := func(unlock bool, kills int) *Model {
		m := &Model{Crashes: kills}
		l, inside := m.Lock("l"), m.Word("inside", 0)
		for i := range 2 {
			m.Actor(m.Process(fmt.Sprint("process ", i)), fmt.Sprint("actor ", i), func(a *Actor) {
				a.Lock(l)
				a.Ghost(func(v View) error {
					if n := v.Get(inside); n != 0 && !v.Dead(Process(n-1)) {
						return errors.New("both are inside")
					}
					v.Set(inside, Value(i+1))
					return nil
				})
				a.Await("nothing", func(View) bool { return true })
				if unlock {
					a.Ghost(func(v View) error { v.Set(inside, 0); return nil })
					a.Unlock(l)
				}
			})
		}
		return m
	}
	if r, err := build(true, 1).Explore(); err != nil || r.Crashed == 0 {
		t.Error(r, err)
	}
	var v *Violation
	if r, err := build(false, 0).Explore(); !errors.As(err, &v) || !strings.Contains(v.Error(), "waits for ever: lock l") {
		t.Error(r, err)
	}
}

// Steps that affect nobody else are taken at once, and what has happened is forgotten. That changes
// no end: with and without it, the memory is the same in the end, in all the ways that it can be.
// (If a process is killed, what nobody else reads may differ, since it is not killed just before it
// stores that.)
func TestReduction(t *testing.T) {
	all := func(r *reuse) []Word {
		words := []Word{r.bucket, r.tail}
		for _, rec := range r.records[1:] {
			words = append(words, rec.key, rec.state, rec.count, rec.next, rec.owner, rec.linked)
		}
		return append(words, slices.Concat(r.acknowledged, r.taken)...)
	}
	models := map[string]func() (*Model, []Word){
		"reuse": func() (*Model, []Word) {
			r := newReuse(2, 0, keyA)
			r.used = 2
			r.goroutine(0, 0, "deleter 0", func(t *thread) { t.delete(keyA) })
			r.acknowledger(0, 2)
			r.goroutine(1, 0, "deleter 1", func(t *thread) { t.delete(keyA); t.reclaim(); t.update(keyB, 1) })
			return r.Model, all(r)
		},
		"counter": func() (*Model, []Word) {
			m := newMoving("")
			m.goroutine(m.process, "updater 0", func(m *mover) { m.inc(); m.inc() })
			m.goroutine(m.process, "updater 1", func(m *mover) { m.inc() })
			m.goroutine(m.process, "mover", func(m *mover) { m.move() })
			return m.Model, []Word{m.value[sharedCell], m.acknowledged}
		},
		"creation": func() (*Model, []Word) {
			r := newReuse(2, 3)
			r.goroutine(0, 0, "creator 0", func(t *thread) { t.make(keyA); t.make(keyB) })
			r.goroutine(1, 0, "creator 1", func(t *thread) { t.make(keyA) })
			return r.Model, all(r)
		},
	}
	for name, model := range models {
		for kills := range 2 {
			var results []Result
			var ends []map[string]bool
			for _, unreduced := range []bool{false, true} {
				m, words := model()
				seen := make(map[string]bool)
				m.Crashes, m.Weak, m.unreduced = kills, true, unreduced
				m.End = func(v View) error {
					values := slices.Clone(v.s.words)
					if kills > 0 {
						values = values[:0]
						for _, w := range words {
							values = append(values, v.s.words[w])
						}
					}
					seen[fmt.Sprint(values, v.s.dead)] = true
					return nil
				}
				r, err := m.Explore()
				if err != nil {
					t.Fatal(err)
				}
				results, ends = append(results, r), append(ends, seen)
			}
			if !maps.Equal(ends[0], ends[1]) {
				t.Errorf("%s, %d kills: %d ends and %d", name, kills, len(ends[0]), len(ends[1]))
			}
			if results[0].States >= results[1].States {
				t.Errorf("%s: nothing is left out: %v and %v", name, results[0], results[1])
			}
			t.Logf("%s, %d kills: %d ends, %d states, without reduction %d", name, kills, len(ends[0]), results[0].States, results[1].States)
		}
	}
}
