package tests_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// TestMain runs the test binary as a worker for tests that need processes, and checks for leaked
// goroutines after all tests.
func TestMain(m *testing.M) {
	if job := os.Getenv("GOTHEUS_TEST_WORKER"); job != "" {
		workers[job]()
		return
	}
	code := m.Run()
	if code == 0 {
		deadline := time.Now().Add(time.Minute)
		for runtime.NumGoroutine() > 1 {
			if time.Now().After(deadline) {
				buf := make([]byte, 1<<20)
				fmt.Printf("goroutines are left:\n%s\n", buf[:runtime.Stack(buf, true)])
				os.Exit(1)
			}
			runtime.Gosched()
		}
	}
	os.Exit(code)
}

// workers are the functions that child processes run, by the value of GOTHEUS_TEST_WORKER.
var workers = map[string]func(){}

// shmURL returns a URL for a new file. Its limit is small because a process never unmaps a file
// again, and on 32-bit machines the addresses of all tests together are few.
func shmURL(t testing.TB) string {
	return "shm://" + filepath.Join(t.TempDir(), "test") + "?fs=any&limit=2MiB"
}

// newRegistry returns a registry, which is closed at the end of the test, and its log.
func newRegistry(t testing.TB, o *gotheus.RegistryOptions) (*gotheus.Registry, *testLog) {
	t.Helper()
	log := new(testLog)
	opts := gotheus.RegistryOptions{}
	if o != nil {
		opts = *o
	}
	opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	r := gotheus.NewRegistry(&opts)
	t.Cleanup(func() { r.Close(context.Background()) })
	return r, log
}

type testLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func bind(t testing.TB, r *gotheus.Registry, url string) {
	t.Helper()
	if err := r.Bind(t.Context(), url); err != nil {
		t.Fatal(err)
	}
}

// bindHeap binds a registry that was closed to the heap, where its page shows what it has counted
// since then.
func bindHeap(t testing.TB, r *gotheus.Registry) {
	t.Helper()
	bind(t, r, "heap:")
}

// page returns r's page without the self-metrics.
func page(t testing.TB, r *gotheus.Registry) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, "gotheus_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// pageHas fails the test unless r's page contains all lines.
func pageHas(t testing.TB, r *gotheus.Registry, lines ...string) {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains("\n"+b.String(), "\n"+line+"\n") {
			t.Errorf("the page does not contain %q:\n%s", line, b.String())
		}
	}
}

// faulty is a heap that refuses calls with a given error.
type faulty struct {
	*heap.Backend
	mu  sync.Mutex
	err error
}

func (f *faulty) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *faulty) failing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *faulty) Declare(fam *backend.Family) error {
	if err := f.failing(); err != nil {
		return err
	}
	return f.Backend.Declare(fam)
}

func (f *faulty) Cells(fam *backend.Family, labels string) (backend.Words, error) {
	if err := f.failing(); err != nil {
		return nil, err
	}
	return f.Backend.Cells(fam, labels)
}

func (f *faulty) Sync(ctx context.Context) error {
	if err := f.failing(); err == errHang {
		<-ctx.Done()
		return ctx.Err()
	} else {
		return err
	}
}

var quiet = slog.New(slog.DiscardHandler)

var errHang = errors.New("Sync hangs")
