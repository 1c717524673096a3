package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// small is a store that refuses large commits, as a server does that limits the size of requests,
// and notes how large its answers were.
type small struct {
	*backendtest.Memory
	most int // bytes of a commit

	mu      sync.Mutex
	largest struct{ commit, part, answer int }
}

var errTooLarge = errors.New("the request is too large")

func (s *small) Commit(ctx context.Context, c *store.Commit) error {
	size := 0
	s.mu.Lock()
	for _, heads := range []map[string][]byte{c.If, c.Heads} {
		for _, v := range heads {
			size += len(v)
		}
	}
	for _, v := range c.Parts {
		size += len(v)
		s.largest.part = max(s.largest.part, len(v))
	}
	s.largest.commit = max(s.largest.commit, size)
	s.mu.Unlock()
	if size > s.most {
		return errTooLarge
	}
	return s.Memory.Commit(ctx, c)
}

func (s *small) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	parts, err := s.Memory.Get(ctx, keys)
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	s.mu.Lock()
	s.largest.answer = max(s.largest.answer, size)
	s.mu.Unlock()
	return parts, err
}

// Label texts and definitions of any length are published, read, numbered, deleted, folded and
// restored in requests of bounded size: the store's other users wait for each, and servers refuse
// those that are too large. Every page is complete.
func TestSizes(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	st := &small{Memory: &backendtest.Memory{Now: func() time.Time { return now }}, most: 512 << 10}
	start := func() *syncer.Syncer {
		return syncer.NewManual(st, store.Options{Alive: alive, Timeout: time.Hour}, func() time.Time { return now })
	}
	text := strings.Repeat("x", 60<<10)
	long := func(i int) string { return fmt.Sprintf(`x="%s%d"`, text, i) }
	wide := &backend.Family{Name: "wide", Help: "W.", Kind: backend.Histogram, Labels: []string{"x"}, Buckets: make([]float64, 5000)}
	for i := range wide.Buckets {
		wide.Buckets[i] = float64(i)
	}
	gauge := &backend.Family{Name: "shared", Help: "S.", Kind: backend.Gauge, Labels: []string{"x"}}
	cells := func(s *syncer.Syncer, f *backend.Family, labels string) backend.Words {
		t.Helper()
		w, err := s.Cells(f, labels)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	// shows reads a page, and checks the number of its long series and their values.
	shows := func(s *syncer.Syncer, what string, n int, value uint64) {
		t.Helper()
		if err := s.Refresh(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		found := 0
		for _, g := range s.Walk() {
			for _, r := range g.Series {
				if g.Family.Name == counter.Name && len(r.Labels) > 1000 && !g.Family.Sealed(r.Words) {
					found++
					if got := r.Words[backend.CounterInt].Load(); got != value {
						t.Fatalf("%s: %s…%s is %d, want %d", what, r.Labels[:9], r.Labels[len(r.Labels)-5:], got, value)
					}
				}
			}
		}
		if found != n {
			t.Errorf("%s: %d long series, want %d", what, found, n)
		}
	}
	step := func(what string, s *syncer.Syncer) {
		t.Helper()
		for range 30 { // what others have changed meanwhile is read first
			if err := s.Step(t.Context()); err == nil {
				return
			} else if !errors.Is(err, store.ErrConflict) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		t.Fatalf("%s: conflicts", what)
	}

	const n = 300
	a, b := start(), start()
	cells(a, counter, `x="short"`)[backend.CounterInt].Add(1)
	for i := range n {
		cells(a, counter, long(i))[backend.CounterInt].Add(1)
		if i < 40 {
			w := cells(a, wide, fmt.Sprintf("x=%q", fmt.Sprint(i)))
			for j := range w[backend.HistogramBuckets:] {
				w[backend.HistogramBuckets+j].Add(1)
			}
			cells(a, gauge, long(i))
			d := &backend.Family{Name: fmt.Sprint("long", i), Help: text, Kind: backend.Counter}
			cells(a, d, "")
		}
	}
	step("publishing", a)
	shows(b, "another process", n, 1)

	// One that leaves at once, with so few series that it would not number them.
	c := start()
	for i := range 100 {
		cells(c, counter, long(n+i))[backend.CounterInt].Add(1)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatalf("leaving: %v", err)
	}
	shows(b, "after one has left", n+100, 1)
	now = now.Add(alive)
	step("folding", a)
	step("folding", b)
	shows(b, "after folding", n+100, 1)

	for i := n; i < n+100; i++ {
		if ok, err := b.DeleteSeries(counter, long(i)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	step("deleting", b)
	shows(a, "after deletions", n, 1)

	// The store loses everything: all publish again, and restore what they know.
	if err := st.Memory.Commit(t.Context(), &store.Commit{Heads: map[string][]byte{"meta": nil, "dir": nil, "base": nil}, Drop: []string{"f", "d", "b"}}); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		now = now.Add(alive / 4)
		for _, s := range []*syncer.Syncer{a, b} {
			if err := s.Step(t.Context()); errors.Is(err, errTooLarge) {
				t.Fatalf("restoring: %v", err)
			}
		}
	}
	shows(b, "after a loss", n, 1)
	shows(a, "after a loss", n, 1)

	// One is killed, and comes back as another.
	for range 12 {
		now = now.Add(alive / 4)
		step("folding a dead one", b)
	}
	d := start()
	shows(d, "after a death", n, 1)

	if l := st.largest; l.part > 128<<10 || l.commit > 384<<10 || l.answer > 2<<20 {
		t.Errorf("the largest requests and answers: %+v", l)
	}
}
