package storetest

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// shield makes Close do nothing, so that the store stays open.
type shield struct{ store.Store }

func (shield) Close() error { return nil }

func newSyncer(t *testing.T, s store.Store, o *store.Options) *syncer.Syncer {
	t.Helper()
	b, err := syncer.New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testTotals(t *testing.T, a, b store.Store) {
	ctx := t.Context()
	f := &backend.Family{Name: "c_total", Kind: backend.Counter, Labels: []string{"x"}}
	var wg sync.WaitGroup
	const workers, each = 4, 200
	for i := range workers {
		s := &backendtest.Faulty{Store: shield{[]store.Store{a, b}[i%2]}}
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(uint64(i), 2))
		s.Next = func() backendtest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if rnd.IntN(10) == 0 {
				return []backendtest.Fault{backendtest.LoseRequest, backendtest.LoseReply, backendtest.Duplicate, backendtest.Late}[rnd.IntN(4)]
			}
			if rnd.IntN(100) == 0 {
				return backendtest.Hang
			}
			return backendtest.None
		}
		p := newSyncer(t, s, &store.Options{Interval: 2 * time.Millisecond, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
		wg.Go(func() {
			for n := range each {
				w, err := p.Cells(f, fmt.Sprintf(`x="%d"`, n%10))
				if err != nil {
					t.Error(err)
					return
				}
				w[backend.CounterInt].Add(1)
				if n%50 == 0 {
					p.Sync(ctx)
					s.Arrive(ctx)
				}
			}
			if err := p.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p := newSyncer(t, shield{a}, nil)
	defer p.Close(ctx)
	if err := p.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	for _, g := range p.Walk() {
		if len(g.Series) != 10 {
			t.Errorf("%d series, want 10", len(g.Series))
		}
		for _, s := range g.Series {
			if n := s.Words[backend.CounterInt].Load(); n != workers*each/10 {
				t.Errorf("%s is %d, want %d", s.Labels, n, workers*each/10)
			}
		}
	}
}

func testLoss(t *testing.T, a, b store.Store)    { testHealing(t, a, b, false) }
func testReplica(t *testing.T, a, b store.Store) { testHealing(t, a, b, true) }

// testHealing runs two processes that have read everything, and a third one that has ended. Then
// the store loses data. From then on, every page shows the complete total or fails, and finally
// pages succeed.
func testHealing(t *testing.T, a, b store.Store, replica bool) {
	ctx := t.Context()
	f := &backend.Family{Name: "c_total", Kind: backend.Counter}
	done := &past{keys: make(map[store.Key]bool)}
	start := func(s store.Store) *syncer.Syncer {
		return newSyncer(t, witness{shield{s}, done}, &store.Options{
			Interval: 5 * time.Millisecond, Alive: 400 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		})
	}
	count := func(p *syncer.Syncer, n uint64) {
		t.Helper()
		w, err := p.Cells(f, "")
		if err != nil {
			t.Fatal(err)
		}
		w[backend.CounterInt].Add(n)
		if err := p.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	p, q, gone := start(a), start(b), start(a)
	defer p.Close(ctx)
	defer q.Close(ctx)
	count(p, 1)
	count(gone, 2)
	var old *store.Commit
	if replica {
		var err error
		if old, err = done.state(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	count(gone, 4)
	if err := gone.Close(ctx); err != nil {
		t.Fatal(err)
	}
	count(q, 8)
	count(p, 16)
	const want = 1 + 2 + 4 + 8 + 16
	shows := func(s *syncer.Syncer) bool {
		t.Helper()
		if s.Sync(ctx) != nil {
			return false
		}
		for _, g := range s.Walk() {
			for _, row := range g.Series {
				if n := row.Words[backend.CounterInt].Load(); n != want {
					t.Fatalf("a page shows %d, and %d were acknowledged", n, want)
				}
			}
		}
		return true
	}
	both := func() {
		t.Helper()
		for begun := time.Now(); !shows(p) || !shows(q); time.Sleep(5 * time.Millisecond) {
			if time.Since(begun) > patience {
				t.Fatal("pages still fail")
			}
		}
	}
	both()
	if err := done.lose(ctx, a, old); err != nil {
		t.Fatal(err)
	}
	both()
	// The restored data is in the store, since a new process finds it.
	r := start(b)
	defer r.Close(ctx)
	for begun := time.Now(); !shows(r); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatal("the pages of a new process still fail")
		}
	}
}
