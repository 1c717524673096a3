package syncer_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// cuttable is a store whose connection can be cut.
func cuttable(mem *backendtest.Memory, cut *atomic.Bool) *backendtest.Faulty {
	return &backendtest.Faulty{Store: mem, Next: func() backendtest.Fault {
		if cut.Load() {
			return backendtest.LoseRequest
		}
		return backendtest.None
	}}
}

// While a store cannot be reached and pages show what was read last, what they say about this
// process and its store is as of the scrape; and of the first one after the store is back.
func TestOwnFactsWithoutStore(t *testing.T) {
	t.Parallel()
	const start = 1e9
	var (
		seconds atomic.Int64
		now     = func() time.Time { return time.Unix(start+seconds.Load(), 0) }
		mem     = &backendtest.Memory{Now: now}
		cut     atomic.Bool
		rs      []*gotheus.Registry
		ss      []*syncer.Syncer
		cs      []*gotheus.Counter
	)
	add := func(cut *atomic.Bool) {
		t.Helper()
		s := syncer.NewManual(cuttable(mem, cut), store.Options{Alive: time.Hour, ServeStale: true}, now)
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{SampleInterval: time.Hour, Logger: slog.New(slog.DiscardHandler)})
		cs = append(cs, r.NewCounter("c_total", "C.", nil))
		if err := r.BindBackend(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		rs, ss = append(rs, r), append(ss, s)
		// Numbers follow the order of publications.
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(&cut)
	add(new(atomic.Bool))
	processes := 2
	page := func(i int, reachable bool, lines ...string) {
		t.Helper()
		var b strings.Builder
		if err := rs[i].WriteText(&b); reachable != (err == nil) || !reachable && !errors.Is(err, backendtest.ErrFault) {
			t.Errorf("page of %d: %v", i, err)
		}
		for _, l := range lines {
			if !strings.Contains(b.String(), "\n"+l+"\n") {
				t.Errorf("page of %d has no %s:\n%s", i, l, &b)
			}
		}
		if n := strings.Count(b.String(), "gotheus_backend_up{"); n != processes {
			t.Errorf("page of %d: %d processes", i, n)
		}
	}
	up := func(process, v int) string { return fmt.Sprintf(`gotheus_backend_up{process="%d"} %d`, process, v) }
	last := func(process int, after int64) string {
		return fmt.Sprintf(`gotheus_backend_last_success_timestamp_seconds{process="%d"} %d`, process, start+after)
	}
	lag := func(process int, s int64) string {
		return fmt.Sprintf(`gotheus_publish_lag_seconds{process="%d"} %d`, process, s)
	}
	page(0, true, up(0, 1), last(0, 0))
	seconds.Add(10)
	page(1, true, up(0, 1), up(1, 1), last(0, 0), last(1, 0))
	page(0, true, up(0, 1), up(1, 1), last(1, 0))
	page(0, true, last(0, 10))

	cut.Store(true)
	cs[0].Inc()
	for range 3 {
		seconds.Add(60)
		page(0, false, "c_total 0", up(0, 0), last(0, 10), lag(0, seconds.Load()-10), up(1, 1))
	}
	// As last published.
	page(1, true, "c_total 0", up(1, 1), up(0, 1))

	cut.Store(false)
	page(0, true, "c_total 1", up(0, 1), last(0, 190), lag(0, 0), up(1, 1))
	page(1, true, "c_total 1", up(1, 1))

	// The other one takes this one for dead, and a third one gets its number. Back again, it
	// has another number, and shows each process with the values of that.
	cut.Store(true)
	for range 20 {
		seconds.Add(600)
		if err := ss[1].Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(new(atomic.Bool))
	page(2, true, "c_total 1", up(0, 1), last(0, seconds.Load()), up(1, 1))
	page(0, false, up(0, 0), last(0, 190))
	cut.Store(false)
	processes = 3
	page(0, true, "c_total 1", up(0, 1), up(1, 1), up(2, 1), last(2, seconds.Load()))
	seconds.Add(1)
	if err := ss[0].Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	page(2, true, "c_total 1", up(0, 1), up(1, 1), up(2, 1), last(0, seconds.Load()-1))
	for i := range rs {
		if err := rs[i].Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// A process whose store never answered says so on its first page.
func TestOwnFactsFromTheStart(t *testing.T) {
	t.Parallel()
	var cut atomic.Bool
	cut.Store(true)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	if err := r.BindBackend(t.Context(), syncer.NewManual(cuttable(new(backendtest.Memory), &cut), store.Options{ServeStale: true}, time.Now)); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.WriteText(&b); err == nil || !strings.Contains(b.String(), "gotheus_backend_up 0\n") ||
		!strings.Contains(b.String(), "gotheus_backend_last_success_timestamp_seconds 0\n") {
		t.Errorf("%v\n%s", err, &b)
	}
}

// Several stores answer if all do, as of the one that answered longest ago.
func TestAnsweredSharded(t *testing.T) {
	t.Parallel()
	var cuts [3]atomic.Bool
	var stores []store.Store
	for i := range cuts {
		stores = append(stores, cuttable(new(backendtest.Memory), &cuts[i]))
	}
	b, err := syncer.NewSharded(stores, &store.Options{Interval: time.Hour, Alive: 3 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(t.Context())
	if ok, last := b.Answered(); !ok || !last.IsZero() {
		t.Errorf("before the first contact: %v, %v", ok, last)
	}
	begun := time.Now()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	ok, first := b.Answered()
	if !ok || first.Before(begun) {
		t.Errorf("after it: %v, %v", ok, first)
	}
	cuts[2].Store(true)
	if err := b.Sync(t.Context()); err == nil {
		t.Error("a page without a shard")
	}
	if ok, last := b.Answered(); ok || last.Sub(first) > time.Since(begun) || last.Before(first) {
		t.Errorf("without one of three: %v, %v", ok, last)
	}
	cuts[2].Store(false)
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, last := b.Answered(); !ok || !last.After(first) {
		t.Errorf("with all again: %v, %v", ok, last)
	}
}
