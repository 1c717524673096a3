package tests_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrictest"
)

// Lines of one cause are logged once a minute, with the number of suppressed lines. Other causes
// are not affected.
func TestLogOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time advances only while all goroutines are blocked
		r, log := newRegistry(t, nil)
		a, b := r.NewCounter("a_total", "A.", nil), r.NewCounter("b_total", "B.", nil)
		lines := func(want ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if len(got) != len(want) {
				t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), log)
			}
			for i, w := range want {
				metric, suppressed, _ := strings.Cut(w, " ")
				if !strings.Contains(got[i], "metric="+metric+"_total") ||
					suppressed == "" && strings.Contains(got[i], "suppressed") || !strings.Contains(got[i], suppressed) {
					t.Errorf("line %d is %q, want %q", i, got[i], w)
				}
			}
		}
		for range 60 {
			a.Add(-1)
			time.Sleep(time.Second - time.Nanosecond)
		}
		lines("a")
		b.Add(-1)
		lines("a", "b")
		time.Sleep(60 * time.Nanosecond)
		a.Add(-1) // exactly a minute after the first one
		lines("a", "b", "a suppressed=59")
		b.Add(-1)
		a.Add(-1)
		lines("a", "b", "a suppressed=59")
		time.Sleep(time.Hour)
		a.Add(-1)
		b.Add(-1)
		lines("a", "b", "a suppressed=59", "a suppressed=1", "b suppressed=1")
		time.Sleep(time.Minute)
		a.Add(-1)
		lines("a", "b", "a suppressed=59", "a suppressed=1", "b suppressed=1", "a")
	})
}

// slowLog is a log whose first line blocks until it is released.
type slowLog struct {
	slog.Handler
	lines          atomic.Int32
	begun, release chan struct{}
}

func (l *slowLog) Handle(context.Context, slog.Record) error {
	if l.lines.Add(1) == 1 {
		close(l.begun)
		<-l.release
	}
	return nil
}

func (l *slowLog) Enabled(context.Context, slog.Level) bool { return true }

// A scrape whose collection fails does not discard what a later collection has stored for another
// scrape.
func TestLateFailure(t *testing.T) {
	t.Parallel()
	log := &slowLog{begun: make(chan struct{}), release: make(chan struct{})}
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(log)})
	var calls atomic.Int32
	r.NewGaugeFunc("depth", "D.", nil, func() (float64, error) {
		if calls.Add(1) == 1 {
			return 0, errors.New("out of luck")
		}
		return 7, nil
	})
	first := make(chan struct{})
	go func() {
		defer close(first)
		page(t, r)
	}()
	<-log.begun
	pageHas(t, r, "depth 7")
	close(log.release)
	<-first
	var b strings.Builder
	// Selected by name, so that the page does not call the function.
	if err := r.Write(t.Context(), &b, &gotheus.WriteOptions{Names: []string{"depth"}}); err != nil || !strings.Contains(b.String(), "\ndepth 7\n") || calls.Load() != 2 {
		t.Errorf("after %d calls: %v: %s", calls.Load(), err, &b)
	}
}

// Removing a function twice does not free the name for which another function was registered since.
// A nil function is refused.
func TestRemoveTwice(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	f := func() (float64, error) { return 1, nil }
	remove := r.NewGaugeFunc("depth", "D.", nil, f)
	remove()
	r.NewGaugeFunc("depth", "D.", nil, f)
	remove()
	if _, err := gotheus.TryNewFunc[gotheus.Gauge](r, "depth", "D.", nil, f); !errors.Is(err, gotheus.ErrConflict) {
		t.Errorf("a third function: %v", err)
	}
	metrictest.Want(t, r, "depth", 1)
	if _, err := gotheus.TryNewFunc[gotheus.Gauge](r, "none", "N.", nil, nil); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), "none") {
		t.Errorf("no function: %v", err)
	}
}

// adding is a backend during whose Flush a collector is added.
type adding struct {
	*heap.Backend
	add func()
}

func (b *adding) Flush(ctx context.Context) error {
	b.add()
	return b.Backend.Flush(ctx)
}

// A collector that is registered during Close is not called forever.
func TestAddDuringClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRegistry(t, nil)
		var calls atomic.Int32
		if err := r.BindBackend(t.Context(), &adding{heap.New(), func() {
			r.Register(gotheus.ProcessCollectorFunc(func(context.Context, *gotheus.Sink) error {
				calls.Add(1)
				return nil
			}))
		}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := calls.Load()
		time.Sleep(time.Hour)
		if n := calls.Load() - before; n != 0 {
			t.Errorf("called %d times after Close", n)
		}
	})
}
