package tests_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/open"
)

// A logger may call Flush and count lines, whatever a line is about.
func TestLoggerThatFlushes(t *testing.T) {
	t.Parallel()
	h := new(flushingHandler)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(h), NoSelfMetrics: true})
	b := &faulty{Backend: heap.New(), err: backend.ErrFull}
	lines := r.NewCounterVec("lines_total", "L.", nil, "l")
	lines.With("a").Inc()
	begun, during := time.Now(), 0
	h.flush = func() { // called when it is bound
		during++
		lines.With("a").AddExemplar(1, gotheus.Labels{"a": "b"})
		if err := r.Flush(soon(t)); !errors.Is(err, backend.ErrFull) {
			t.Errorf("Flush in the logger: %v", err)
		}
	}
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begun); during != 1 || d > 9*time.Second { // Flush waits that long
		t.Errorf("bound in %v, %d lines", d, during)
	}
	// Nor is there room for exemplars.
	b.set(nil)
	backendtest.Eventually(t, "the series arrives", func() bool { return r.Flush(t.Context()) == nil })
	b.set(backend.ErrFull)
	h.lines.Store(0)
	h.flush = func() { lines.With("a").AddExemplar(1, gotheus.Labels{"a": "b"}) }
	lines.With("a").AddExemplar(1, gotheus.Labels{"a": "b"})
	if h.lines.Load() == 0 {
		t.Error("nothing was said about exemplars")
	}
	b.set(nil)
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// noticed is a backend with a notice about how it was opened.
type noticed struct{ *heap.Backend }

func (noticed) Notices() []string { return []string{"the file was damaged"} }

func init() {
	open.Register("test-noticed", func(context.Context, *url.URL) (backend.Backend, error) { return noticed{heap.New()}, nil })
}

// A logger may also call Flush when it gets such a notice: the bind is over by then.
func TestFlushAtANotice(t *testing.T) {
	t.Parallel()
	h := new(flushingHandler)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(h), NoSelfMetrics: true})
	defer r.Close(context.Background())
	h.flush = func() {
		if err := r.Flush(soon(t)); err != nil {
			t.Errorf("Flush in the logger: %v", err)
		}
	}
	bind(t, r, "test-noticed:")
	if h.lines.Load() != 1 {
		t.Errorf("%d lines", h.lines.Load())
	}
}

type flushingHandler struct {
	slog.Handler
	flush func()
	lines atomic.Int32
}

func (h *flushingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *flushingHandler) Handle(context.Context, slog.Record) error {
	if h.lines.Add(1) == 1 {
		h.flush()
	}
	return nil
}

// The logger for others follows the registry's, also through a view.
func TestRegistryLogger(t *testing.T) {
	t.Parallel()
	r, first := newRegistry(t, nil)
	l := r.Sub("x_", nil).Logger().With("by", "client")
	l.Info("one")
	second := new(testLog)
	r.SetLogger(slog.New(slog.NewTextHandler(second, nil)))
	l.Info("two")
	if a, b := first.String(), second.String(); !strings.Contains(a, "msg=one by=client") || strings.Contains(a, "two") || !strings.Contains(b, "msg=two by=client") {
		t.Errorf("%q, then %q", a, b)
	}
}
