package tests_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/open"
)

// The results of Flush and Close are true at any moment of a bind, a retry and a close.

// halting is a backend in which the n-th series to come waits until it is released.
type halting struct {
	*heap.Backend
	n                atomic.Int64
	entered, release chan struct{}
	closing          error // returned by Close
}

func newHalting(n int64) *halting {
	h := &halting{Backend: heap.New(), entered: make(chan struct{}), release: make(chan struct{})}
	h.n.Store(n)
	return h
}

func (h *halting) Cells(f *backend.Family, labels string) (backend.Words, error) {
	if h.n.Add(-1) == 0 {
		close(h.entered)
		<-h.release
	}
	return h.Backend.Cells(f, labels)
}

func (h *halting) Close(ctx context.Context) error {
	return errors.Join(h.closing, h.Backend.Close(ctx))
}

// counted returns the sum of all counters in the backend.
func (h *halting) counted() (n uint64) {
	for _, g := range h.Walk() {
		for _, s := range g.Series {
			n += s.Words[backend.CounterInt].Load()
		}
	}
	return n
}

// soon returns a context that ends before any call is released.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// countTen returns a registry with ten counters at 1.
func countTen(t *testing.T) *gotheus.Registry {
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	for i := range 10 {
		v.With(fmt.Sprint(i)).Inc()
	}
	return r
}

// While a bind moves series, Flush and Close wait for it. If their contexts end first, they return
// an error.
func TestFlushDuringBind(t *testing.T) {
	t.Parallel()
	r, b := countTen(t), newHalting(5)
	bound, flushed := make(chan error, 1), make(chan error, 1)
	go func() { bound <- r.BindBackend(context.Background(), b) }()
	<-b.entered
	for what, err := range map[string]error{"Flush": r.Flush(soon(t)), "Close": r.Close(soon(t)), "Bind": r.Bind(soon(t), "heap:")} {
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "halting") {
			t.Errorf("%s while series are moved, of which %d have arrived: %v", what, b.counted(), err)
		}
	}
	go func() {
		err := r.Flush(context.Background())
		if n := b.counted(); err == nil && n != 10 {
			err = fmt.Errorf("Flush succeeded with %d of 10 counts in the backend", n)
		}
		flushed <- err
	}()
	close(b.release)
	if err := errors.Join(<-bound, <-flushed); err != nil {
		t.Error(err)
	}
}

// Likewise while a backend is being opened, by a call or by a retry.
func TestFlushDuringOpen(t *testing.T) {
	t.Parallel()
	g := &gated{entered: make(chan struct{}, 9), release: make(chan struct{}, 9), opened: make(chan *heap.Backend, 9), fail: true}
	gates.Store("flush", g)
	r := countTen(t)
	bound := make(chan error)
	go func() { bound <- r.Bind(context.Background(), "test-gated://flush") }()
	for _, who := range []string{"Bind", "a retry", "the next retry"} {
		<-g.entered
		for what, err := range map[string]error{"Flush": r.Flush(soon(t)), "Close": r.Close(soon(t))} {
			if err == nil || !strings.Contains(err.Error(), "test-gated://flush") {
				t.Errorf("%s while %s opens a backend: %v", what, who, err)
			}
		}
		switch who {
		case "Bind":
			g.release <- struct{}{}
			<-bound
			if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "not now") {
				t.Errorf("Flush after Bind has failed: %v", err)
			}
		case "a retry": // fails and keeps retrying, since Close has not waited for it
			g.release <- struct{}{}
			if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "not now") {
				t.Errorf("Flush after a retry has failed: %v", err)
			}
			g.mu.Lock()
			g.fail = false
			g.mu.Unlock()
		}
	}
	flushed := make(chan error)
	go func() { flushed <- r.Flush(context.Background()) }()
	g.release <- struct{}{}
	if err := <-flushed; err != nil {
		t.Error(err)
	}
	if n := (&halting{Backend: <-g.opened}).counted(); n != 10 {
		t.Errorf("Flush succeeded with %d of 10 counts in the backend", n)
	}
}

// A job whose directory appears later calls Flush until it succeeds, and exits.
func TestJobFlushesUntilDone(t *testing.T) {
	t.Parallel()
	const series = 20_000
	for _, in := range []string{"main", "goroutine"} {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if in == "main" {
				dir = filepath.Join(dir, "later")
			}
			file := "shm://" + filepath.Join(dir, "job") + "?fs=any&limit=16MiB"
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=job", "FILE="+file, "BIND_IN="+in, fmt.Sprint("SERIES=", series), "GORACE=atexit_sleep_ms=0")
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			bufio.NewReader(out).ReadString('\n') // it has begun to bind
			if in == "main" {
				err = os.Mkdir(dir, 0o700)
			}
			if err := errors.Join(err, cmd.Wait()); err != nil {
				t.Fatal(err)
			}
			r, _ := newRegistry(t, nil)
			bind(t, r, file)
			if n := strings.Count(page(t, r), "} 1\n"); n != series {
				t.Errorf("Flush succeeded with %d of %d counts in the file", n, series)
			}
		})
	}
}

func init() {
	workers["job"] = job
	open.Register("test-job", func(ctx context.Context, u *url.URL) (backend.Backend, error) {
		fmt.Println("binding")
		close(jobBinds)
		return open.URL(ctx, os.Getenv("FILE"), quiet)
	})
}

var jobBinds = make(chan struct{})

func job() {
	var series int
	fmt.Sscan(os.Getenv("SERIES"), &series)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	v := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{MaxSeries: -1}, "l")
	for i := range series {
		v.With(fmt.Sprint(i)).Inc()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if os.Getenv("BIND_IN") == "main" {
		if r.Bind(ctx, os.Getenv("FILE")) == nil {
			os.Exit(2)
		}
		fmt.Println("not yet")
	} else {
		go r.Bind(ctx, "test-job:")
		<-jobBinds
	}
	for r.Flush(ctx) != nil {
		if ctx.Err() != nil {
			os.Exit(1)
		}
	}
}

// After a failed Close, further calls also report the counts as unsaved, until a bind starts over.
func TestFailedClose(t *testing.T) {
	t.Parallel()
	r, b := countTen(t), newHalting(0)
	b.closing = errors.New("the store is away")
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for what, err := range map[string]error{"Close": r.Close(t.Context()), "Flush": r.Flush(t.Context())} {
			if !errors.Is(err, b.closing) {
				t.Errorf("%s, when counts are gone: %v", what, err)
			}
		}
	}
	if err := errors.Join(r.BindBackend(t.Context(), heap.New()), r.Flush(t.Context()), r.Close(t.Context()), r.Flush(t.Context()), r.Close(t.Context())); err != nil {
		t.Errorf("binding again: %v", err)
	}
}

// refusing is a backend without room that counts the requests for it.
type refusing struct {
	*heap.Backend
	asked atomic.Int64
}

func (b *refusing) Cells(*backend.Family, string) (backend.Words, error) {
	b.asked.Add(1)
	return nil, backend.ErrFull
}

// If the registry is closed while Flush waits for room, Flush does not report the move to the heap
// as success.
func TestFlushMeetsClose(t *testing.T) {
	t.Parallel()
	for range 5 {
		b := &refusing{Backend: heap.New()}
		r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		if err := r.BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		r.NewCounter("c_total", "C.", nil).Inc()
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				if err := r.Flush(context.Background()); !errors.Is(err, backend.ErrFull) {
					t.Errorf("Flush: %v", err)
				}
			})
		}
		// More often than the retries try in a minute.
		backendtest.Eventually(t, "a Flush is waiting", func() bool { return b.asked.Load() > 30 })
		if err := r.Close(soon(t)); !errors.Is(err, backend.ErrFull) {
			t.Errorf("Close: %v", err)
		}
		wait.Wait()
	}
}

// Flush knows of a series without room before any update can have counted in it.
func TestFlushInTheLogger(t *testing.T) {
	t.Parallel()
	h := new(flushingHandler)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(h), NoSelfMetrics: true})
	defer r.Close(context.Background())
	b := &faulty{Backend: heap.New()}
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	v := r.NewCounterVec("c_total", "C.", nil, "l")
	h.flush = func() {
		v.With("a").Inc()
		if err := r.Flush(soon(t)); !errors.Is(err, backend.ErrFull) {
			t.Errorf("Flush while it is logged that there is no room: %v", err)
		}
	}
	b.set(backend.ErrFull)
	v.With("a")
	if h.lines.Load() == 0 {
		t.Error("nothing was logged")
	}
}

// stuck is a backend whose Sync ends with its context.
type stuck struct {
	*heap.Backend
	syncing chan struct{}
}

func (s *stuck) Sync(ctx context.Context) error {
	select {
	case s.syncing <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return ctx.Err()
}

// Close does not wait for a sweep that is blocked in the backend.
func TestCloseDuringSweep(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	b := &stuck{Backend: heap.New(), syncing: make(chan struct{})}
	r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{TTL: time.Millisecond}, "l").With("a").Inc()
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	<-b.syncing
	begun := time.Now()
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if d := time.Since(begun); d > 9*time.Second { // the sweep's own limit
		t.Errorf("it took %v", d)
	}
}
