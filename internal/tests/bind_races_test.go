package tests_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/open"
)

// Series that the backend had no room for are moved there in the background. Close may run at any
// moment of that, and no series may be left behind.
func TestCloseMeetsPromotion(t *testing.T) {
	t.Parallel()
	for range 200 {
		shared := heap.New()
		b := &faulty{Backend: shared, err: backend.ErrFull}
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet, NoSelfMetrics: true})
		r.BindBackend(t.Context(), b)
		v := r.NewCounterVec("c_total", "C.", nil, "l")
		var wait sync.WaitGroup
		for g := range 4 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				for i := range 20 {
					if g == 0 && i == 5 {
						b.set(nil)
					}
					v.With(fmt.Sprint(i)).Inc()
				}
			}()
		}
		r.Flush(t.Context())
		wait.Wait()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		total := uint64(0)
		for _, g := range shared.Walk() {
			for _, s := range g.Series {
				total += s.Words[backend.CounterInt].Load()
			}
		}
		if total != 80 {
			t.Fatalf("%d counted, want 80", total)
		}
	}
}

// A logger may update the family that a line is about.
func TestCountingLogger(t *testing.T) {
	t.Parallel()
	h := &countingHandler{}
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(h), NoSelfMetrics: true})
	defer r.Close(context.Background())
	b := &faulty{Backend: heap.New(), err: backend.ErrFull}
	h.lines = r.NewCounterVec("log_lines_total", "Lines.", nil, "level")
	r.BindBackend(t.Context(), b)
	h.lines.With("other").Inc()
	b.set(nil)
	backendtest.Eventually(t, "the line is counted", func() bool { return strings.Contains(page(t, r), `log_lines_total{level="WARN"} 1`) })
}

type countingHandler struct {
	slog.Handler
	lines *gotheus.Vec[gotheus.Counter]
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *countingHandler) Handle(_ context.Context, r slog.Record) error {
	h.lines.With(r.Level.String()).Inc()
	return nil
}

// gated is a driver that waits before it opens, and fails on demand.
type gated struct {
	entered, release chan struct{}
	opened           chan *heap.Backend
	mu               sync.Mutex
	fail             bool
}

var gates sync.Map // by host

func init() {
	open.Register("test-gated", func(ctx context.Context, u *url.URL) (backend.Backend, error) {
		g, _ := gates.Load(u.Host)
		return g.(*gated).open()
	})
}

func (g *gated) open() (backend.Backend, error) {
	g.entered <- struct{}{}
	<-g.release
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail {
		return nil, errors.New("not now")
	}
	b := heap.New()
	g.opened <- b
	return b, nil
}

// A failed bind is no longer retried once the registry is closed or bound to another backend.
func TestRetryIsOver(t *testing.T) {
	t.Parallel()
	g := &gated{entered: make(chan struct{}, 9), release: make(chan struct{}, 9), opened: make(chan *heap.Backend, 9), fail: true}
	gates.Store("over", g)
	r, _ := newRegistry(t, nil)
	bound := make(chan error)
	go func() { bound <- r.Bind(context.Background(), "test-gated://over") }()
	<-g.entered
	closed := make(chan error)
	go func() { closed <- r.Close(context.Background()) }()
	g.release <- struct{}{}
	if err := <-bound; err == nil {
		t.Error("no error")
	}
	<-closed
	g.mu.Lock()
	g.fail = false
	g.mu.Unlock()
	for range 4 { // lets further attempts happen, if there are any
		g.release <- struct{}{}
	}
	if err := r.BindBackend(t.Context(), heap.New()); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// If nothing has reached the backend, Close must return an error.
func TestFlushUnbound(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	r.Bind(t.Context(), "shm:///nonexistent/dir/x")
	r.NewCounter("c_total", "C.", nil).Inc()
	for range 2 {
		for name, err := range map[string]error{"Flush": r.Flush(t.Context()), "Close": r.Close(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), "/nonexistent/dir/x") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := errors.Join(r.BindBackend(t.Context(), heap.New()), r.Flush(t.Context()), r.Close(t.Context())); err != nil {
		t.Errorf("the registry was bound: %v", err)
	}
}

// A client that stops reading a page delays a bind, and a bind delays other scrapes, but none
// beyond its context.
func TestStuckReader(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	r.NewCounter("c_total", "C.", nil).Inc()
	out, in := io.Pipe()
	stuck := make(chan error)
	go func() { stuck <- r.WriteText(in) }()
	if _, err := out.Read(make([]byte, 1)); err != nil { // the rest is not read
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.BindBackend(ctx, heap.New()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("bind: %v", err)
	}
	pageHas(t, r, "c_total 1")
	out.Close()
	<-stuck
	if err := r.BindBackend(t.Context(), heap.New()); err != nil {
		t.Error(err)
	}
	// A page written within a page while a bind waits is delayed, but does not deadlock.
	r2, _ := newRegistry(t, nil)
	r2.NewCounter("c_total", "C.", nil)
	for range r2.Families(t.Context()) {
		bound := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		go func() { bound <- r2.BindBackend(ctx, heap.New()) }()
		r2.WriteText(io.Discard)
		<-bound
	}
}
