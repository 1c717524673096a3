package tests_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// If the driver of GOTHEUS_BACKEND hangs, no call waits longer than its context, and none reports
// success.
func TestEnvironmentHangs(t *testing.T) {
	g := &gated{entered: make(chan struct{}, 9), release: make(chan struct{}, 9), opened: make(chan *heap.Backend, 9)}
	gates.Store("env", g)
	t.Setenv(gotheus.EnvBackend, "test-gated://env")
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	r := countTen(t)
	gotheus.SetDefault(r)
	first := make(chan error, 1)
	go func() { first <- r.Flush(t.Context()) }()
	<-g.entered
	for what, err := range map[string]error{"Flush": r.Flush(soon(t)), "Close": r.Close(soon(t)), "Bind": r.Bind(soon(t), "test-gated://env")} {
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "test-gated://env") {
			t.Errorf("%s: %v", what, err)
		}
	}
	g.release <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := (&halting{Backend: <-g.opened}).counted(); n != 10 {
		t.Errorf("Flush succeeded with %d of 10 counts in the backend", n)
	}
}

// A bind to a backend that fails changes nothing: the backend requested before is still missing,
// and still retried.
func TestBindToOpenBackendFails(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	r := countTen(t)
	if err := r.Bind(t.Context(), "shm://"+dir+"/x?fs=any&limit=1MiB"); err == nil {
		t.Fatal("bound")
	}
	for range r.Families(t.Context()) {
		if err := r.BindBackend(soon(t), heap.New()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("bound during a scrape: %v", err)
		}
		break
	}
	if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Flush: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	backendtest.Eventually(t, "it is tried again", func() bool { return r.Flush(t.Context()) == nil })
}

// Callers that stop waiting for their turn do not end the retries.
func TestRetriesSurvive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	r := countTen(t)
	if err := r.Bind(t.Context(), "shm://"+dir+"/x?fs=any&limit=1MiB"); err == nil {
		t.Fatal("bound")
	}
	var wait sync.WaitGroup
	var stop atomic.Bool
	for range 4 {
		wait.Go(func() {
			for !stop.Load() {
				r.Flush(context.Background())
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range r.Families(t.Context()) { // holds off the bind whose turn it is
		for range 2000 {
			if r.BindBackend(ended, heap.New()) == nil {
				t.Fatal("bound")
			}
		}
		break
	}
	stop.Store(true)
	wait.Wait()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	backendtest.Eventually(t, "it is tried again", func() bool { return r.Flush(t.Context()) == nil })
}
