package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// sharded returns a backend on the first n of these stores.
func sharded(t *testing.T, stores []backendtest.Memory, n int) *syncer.Sharded {
	t.Helper()
	var list []store.Store
	for i := range n {
		list = append(list, &stores[i])
	}
	b, err := syncer.NewSharded(list, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		b.Close(ctx)
	})
	return b
}

// empty reports whether a store has no records.
func empty(t *testing.T, m *backendtest.Memory) bool {
	t.Helper()
	heads, err := m.Heads(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(heads) == 0
}

// Series are spread over all stores, and add up whichever store they are in.
func TestSharded(t *testing.T) {
	t.Parallel()
	stores := make([]backendtest.Memory, 4)
	a, b := sharded(t, stores, 4), sharded(t, stores, 4)
	const n = 1000
	for _, s := range []*syncer.Sharded{a, b} {
		for i := range n {
			words, err := s.Cells(counter, fmt.Sprintf("x=%q", fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			words[backend.CounterInt].Store(uint64(i))
		}
	}
	if words, lag := a.Unpublished(); words < n-1 || lag <= 0 {
		t.Errorf("%d words, for %v", words, lag)
	}
	for _, s := range []*syncer.Sharded{a, b, a} {
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if words, lag := a.Unpublished(); words != 0 || lag != 0 {
		t.Errorf("%d words, for %v", words, lag)
	}
	total := func() (series int) {
		for _, g := range a.Walk() {
			for i := range g.Series {
				if s := g.Series[i]; g.Exists(i) {
					series++
					if v := s.Words[backend.CounterInt].Load(); s.Labels != fmt.Sprintf("x=%q", fmt.Sprint(v/2)) {
						t.Errorf("%s is %d", s.Labels, v)
					}
				}
			}
		}
		return series
	}
	if got := total(); got != n {
		t.Errorf("%d series", got)
	}
	for i := range stores { // each has some series
		alone, err := syncer.NewSharded([]store.Store{&stores[i]}, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := alone.Sync(t.Context()); !errors.Is(err, store.ErrShards) || !errors.Is(err, backend.ErrStale) {
			t.Errorf("store %d alone: %v", i, err)
		}
		alone.Close(t.Context())
		keys, _ := stores[i].Get(t.Context(), []store.Key{{Group: "d", Part: 0}})
		if got := strings.Count(string(keys[0]), "x="); got < n/8 {
			t.Errorf("store %d has %d of %d series", i, got, n)
		}
	}
	if deleted, err := a.Delete(counter, func(l string) bool { return l != `x="7"` }); deleted != n-1 || err != nil {
		t.Errorf("%d deleted, %v", deleted, err)
	}
	for _, s := range []*syncer.Sharded{a, b, a} {
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := total(); got != 1 {
		t.Errorf("%d series are left", got)
	}
}

// A process with a different number of shards touches no store until the number is corrected.
func TestShardsChanged(t *testing.T) {
	t.Parallel()
	for _, first := range []int{1, 2, 4} {
		for _, second := range []int{1, 2, 4} {
			if first == second {
				continue
			}
			stores := make([]backendtest.Memory, 4)
			a := sharded(t, stores, first)
			if err := a.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			b := sharded(t, stores, second)
			words, err := b.Cells(counter, "")
			if err != nil {
				t.Fatal(err)
			}
			words[0].Store(1)
			for name, f := range map[string]func(context.Context) error{"Sync": b.Sync, "Flush": b.Flush, "Close": b.Close} {
				if name == "Close" {
					continue // last
				}
				if err := f(t.Context()); !errors.Is(err, store.ErrShards) || !strings.Contains(err.Error(), fmt.Sprintf("shard 0 of %d, not 0 of %d", first, second)) {
					t.Errorf("%d, then %d shards: %s: %v", first, second, name, err)
				}
			}
			for i := first; i < len(stores); i++ {
				if !empty(t, &stores[i]) {
					t.Errorf("%d, then %d shards: something is in store %d", first, second, i)
				}
			}
			if err := b.Close(t.Context()); !errors.Is(err, store.ErrShards) {
				t.Errorf("%d, then %d shards: Close: %v", first, second, err)
			}
			if err := a.Sync(t.Context()); err != nil {
				t.Errorf("%d, then %d shards: the first process: %v", first, second, err)
			}
		}
	}
	if _, err := syncer.NewSharded(nil, nil); err == nil {
		t.Error("no stores, no error")
	}
}

// The shard of a series never changes.
func TestShardOf(t *testing.T) {
	t.Parallel()
	for labels, want := range map[string]int{"": 2, `x="1"`: 1, `x="2"`: 1, `x="3"`: 6} {
		if got := syncer.ShardOf(&backend.Family{Name: "requests_total", Kind: backend.Counter}, labels, 7); got != want {
			t.Errorf("%s is in shard %d, not %d", labels, got, want)
		}
	}
	each := &backend.Family{Name: "requests_total", Kind: backend.Counter, Mode: backend.PerInstance}
	if got := syncer.ShardOf(each, `x="1"`, 7); got != 0 {
		t.Errorf("what is per instance is in shard %d", got)
	}
}

// closes counts the calls of Close.
type closes struct {
	backendtest.Memory
	n int
}

func (c *closes) Close() error { c.n++; return nil }

func newSyncer(t testing.TB, st store.Store, o *store.Options) *syncer.Syncer {
	t.Helper()
	s, err := syncer.New(st, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Invalid options are refused, and the stores stay open.
func TestOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]*store.Options{
		"Interval=-1s: must be a time above zero": {Interval: -time.Second},
		"Alive=-1ns":   {Alive: -1},
		"Timeout=-5ms": {Timeout: -5 * time.Millisecond},
		"Interval=6s with Alive=10s: Alive must be at least twice as long":      {Interval: 6 * time.Second},
		"Interval=500ms with Alive=900ms: Alive must be at least twice as long": {Alive: 900 * time.Millisecond},
	} {
		a, b := new(closes), new(closes)
		if _, err := syncer.NewSharded([]store.Store{a, b}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v", o, err)
		}
		if _, err := syncer.New(a, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: New: error %v", o, err)
		}
		if a.n != 0 || b.n != 0 {
			t.Errorf("%+v: the stores were closed %d and %d times", o, a.n, b.n)
		}
	}
	if _, err := syncer.New(nil, nil); err == nil || !strings.Contains(err.Error(), "is nil") {
		t.Errorf("without a store: %v", err)
	}
	many := make([]store.Store, store.MaxShards+1)
	for i := range many {
		many[i] = new(closes)
	}
	if _, err := syncer.NewSharded(many, nil); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Errorf("too many stores: %v", err)
	}
}

// Close ends with its context, even while a page waits for a store that hangs.
func TestCloseInTime(t *testing.T) {
	t.Parallel()
	for _, given := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := newSyncer(t, &backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault { return backendtest.Hang }},
				&store.Options{Logger: slog.New(slog.DiscardHandler)})
			page := make(chan error)
			go func() { page <- s.Sync(t.Context()) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), given)
			defer cancel()
			begun := time.Now()
			err := s.Close(ctx)
			if took := time.Since(begun); err == nil || took > min(given, 10*time.Second) {
				t.Errorf("Close took %v with a context of %v: %v", took, given, err)
			}
			if err := <-page; !errors.Is(err, backend.ErrStale) {
				t.Errorf("Sync: %v", err)
			}
		})
	}
}

// Flush reports the store's error rather than that no time was left for another attempt.
func TestFlushSaysWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := newSyncer(t, &backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault {
			if calls++; calls < 5 {
				return backendtest.LoseRequest
			}
			return backendtest.Hang
		}}, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
		synctest.Wait() // the first contact is the first call
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Flush(ctx); !errors.Is(err, backendtest.ErrFault) {
			t.Errorf("error %v", err)
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		s.Close(done)
	})
}
