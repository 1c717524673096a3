package syncer_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// Every change of a counter is published, although most chunks are only compared by digest.
func TestLook(t *testing.T) {
	t.Parallel()
	m := newSim(t, 1)
	a, b := m.start(), m.start()
	const one, two = `x="1"`, `x="2"`
	words := func(p *proc, labels string) backend.Words { return p.words(counter, labels) }
	for _, labels := range []string{one, two, `x="3"`, `x="4"`} {
		words(a, labels)[backend.CounterInt].Store(1)
	}
	only := func(labels string) func(string) bool { return func(l string) bool { return l == labels } }
	for _, c := range []struct {
		what     string
		do       func()
		one, two float64 // on b's page; -1: missing
		start    uint64  // of one
	}{
		{"published", func() {}, 1, 1, 0},
		{"an integer", func() { words(a, one)[backend.CounterInt].Add(2) }, 3, 1, 0},
		{"four floats whose bits add up to 2^64", func() {
			for i := range 4 {
				addFloat(&words(a, fmt.Sprintf("x=%q", fmt.Sprint(i+1)))[backend.CounterFloat], 2)
			}
		}, 5, 3, 0},
		{"a float", func() { addFloat(&words(a, two)[backend.CounterFloat], .5) }, 5, 3.5, 0},
		{"a start", func() { counter.Start(words(a, one)).Store(7e6) }, 5, 3.5, 7e6},
		{"nothing", func() {}, 5, 3.5, 7e6},
		{"a deletion", func() {
			if _, err := a.s.Delete(counter, only(one)); err != nil {
				t.Fatal(err)
			}
		}, -1, 3.5, 0},
		{"as much as before, in another life", func() {
			w := words(a, one)
			w[backend.CounterInt].Add(3)
			addFloat(&w[backend.CounterFloat], 2)
			counter.Start(w).Store(7e6)
		}, 5, 3.5, 7e6},
		{"a deletion by another process", func() {
			if _, err := b.s.Delete(counter, only(two)); err != nil {
				t.Fatal(err)
			}
			m.publish()
			b.show(counter, one)
		}, 5, -1, 7e6},
		{"as much as before that", func() {
			a.show(counter, one) // learns of it
			w := words(a, two)
			w[backend.CounterInt].Add(1)
			addFloat(&w[backend.CounterFloat], 2.5)
		}, 5, 3.5, 7e6},
		{"all again, after a loss", func() {
			m.store.Restore(backendtest.Snapshot{})
			for range 10 {
				m.publish()
				for _, p := range m.procs {
					p.s.Maintain(t.Context())
				}
				m.now = m.now.Add(2 * time.Second)
			}
		}, 5, 3.5, 7e6},
	} {
		c.do()
		for range 4 { // first encoded, then encoded and digested, then only digested
			m.publish()
			for labels, want := range map[string]float64{one: c.one, two: c.two} {
				w := b.show(counter, labels)
				if w == nil != (want < 0) {
					t.Fatalf("%s: %s is there: %v", c.what, labels, w != nil)
				}
				if w == nil {
					continue
				}
				if v := float64(w[backend.CounterInt].Load()) + math.Float64frombits(w[backend.CounterFloat].Load()); v != want {
					t.Errorf("%s: %s is %v, want %v", c.what, labels, v, want)
				}
				if start := counter.Start(w).Load(); labels == one && start != c.start {
					t.Errorf("%s: since %d, want %d", c.what, start, c.start)
				}
			}
		}
	}
}

// BenchmarkLook measures the search for changes when there are none.
func BenchmarkLook(b *testing.B) {
	s := syncer.NewManual(new(backendtest.Memory), store.Options{}, time.Now)
	for i := range 100_000 {
		w, err := s.Cells(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		w[backend.CounterInt].Store(uint64(1 + i%7))
		counter.Start(w).Store(uint64(time.Now().UnixNano()))
	}
	if err := s.Publish(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Publish(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
