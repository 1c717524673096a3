package tests_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

func TestWriteFile(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	c := r.NewCounter("c_total", "C.", nil)
	dir := t.TempDir()
	name := filepath.Join(dir, "job.prom")
	for range 2 { // the second time, the file is replaced
		c.Inc()
		if err := r.WriteFile(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want string) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil || string(b) != want {
			t.Errorf("%q, %v, want %q", b, err, want)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
	}
	check("# HELP c_total C.\n# TYPE c_total counter\nc_total 2\n")
	om := &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1}}
	if err := r.WriteFile(t.Context(), name, om); err != nil {
		t.Fatal(err)
	}
	page := "# TYPE c counter\n# HELP c C.\nc_total 2\n# EOF\n"
	check(page)

	// On errors, the file is unchanged and there are no other files.
	if err := r.WriteFile(canceled(), name, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	check(page)
	if err := r.WriteFile(t.Context(), filepath.Join(dir, "none", "x"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	b := &faulty{Backend: heap.New()}
	r2, _ := newRegistry(t, nil)
	if err := r2.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	b.set(backend.ErrClosed)
	if err := r2.WriteFile(t.Context(), name, &gotheus.WriteOptions{Strict: true}); !errors.Is(err, gotheus.ErrPartial) || !errors.Is(err, backend.ErrClosed) {
		t.Errorf("got %v", err)
	}
	check(page)
	// The last known state is better than the old file.
	if err := r2.WriteFile(t.Context(), name, nil); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(name); string(b) == page {
		t.Error("the file is still the old one")
	}
}

// hurried has a deadline that passes before the context ends.
type hurried struct{ context.Context }

func (hurried) Deadline() (time.Time, bool) { return time.Now().Add(time.Millisecond), true }

// A page that has to wait for a bind for too long is an error. It is not an empty page, which would
// look as if all series were gone.
func TestNoPageDuringBind(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	r.NewCounter("c_total", "C.", nil).Inc()
	name := filepath.Join(t.TempDir(), "job.prom")
	if err := r.WriteFile(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(name)

	reader, writer := io.Pipe() // a scrape whose client does not read
	scraped, bound := make(chan error, 1), make(chan error, 1)
	go func() { scraped <- errors.Join(r.WriteText(writer), writer.Close()) }()
	reader.Read(make([]byte, 1))
	go func() { bound <- r.Bind(context.WithoutCancel(t.Context()), shmURL(t)) }()
	backendtest.Eventually(t, "the bind waits for the scrape", func() bool { return r.Write(hurried{t.Context()}, io.Discard, nil) != nil })

	err := r.WriteFile(hurried{t.Context()}, name, nil)
	if !errors.Is(err, gotheus.ErrStale) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v", err)
	}
	if after, err := os.ReadFile(name); err != nil || string(after) != string(before) {
		t.Errorf("got %q, %v, want %q", after, err, before)
	}
	if _, err := io.Copy(io.Discard, reader); err != nil {
		t.Error(err)
	}
	if err := errors.Join(<-scraped, <-bound); err != nil {
		t.Error(err)
	}
}
