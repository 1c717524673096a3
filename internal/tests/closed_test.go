package tests_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/store"
)

// What a registry counts after Close is on no page, in whatever way the page is made: the counters
// would have gone back to zero.
func TestNoPageAfterClose(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	mem := new(backendtest.Memory)
	for name, bindTo := range map[string]func(r *gotheus.Registry) error{
		"shm":  func(r *gotheus.Registry) error { return r.Bind(t.Context(), url) },
		"heap": func(r *gotheus.Registry) error { return r.Bind(t.Context(), "heap:") },
		"store": func(r *gotheus.Registry) error {
			return r.BindStore(t.Context(), &store.Config{Shards: []store.Store{mem}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, log := newRegistry(t, nil)
			outer, _ := newRegistry(t, nil)
			outer.NewCounter("outer_total", "O.", nil).Inc()
			remove := outer.Include(r)
			c := r.NewCounter("c_total", "C.", nil)
			c.Add(7)
			r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
				s.Gauge("queue", "Q.").Put(1)
				return nil
			}))
			if err := bindTo(r); err != nil {
				t.Fatal(err)
			}
			pageHas(t, r, "c_total 7")
			pageHas(t, outer, "c_total 7", "outer_total 1")
			file := filepath.Join(t.TempDir(), "job.prom")
			if err := r.WriteFile(t.Context(), file, nil); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Inc()

			noPage := func(r *gotheus.Registry) {
				t.Helper()
				for _, o := range []*gotheus.WriteOptions{nil, {Strict: true}, {Names: []string{"c_total"}}, {Scope: gotheus.ScopeOwn}, {Scope: gotheus.ScopeLeader}} {
					var b strings.Builder
					if err := r.Write(t.Context(), &b, o); !errors.Is(err, gotheus.ErrClosed) || !errors.Is(err, gotheus.ErrStale) || b.Len() > 0 {
						t.Errorf("%+v: %v: %s", o, err, &b)
					}
				}
				for f, err := range r.Families(t.Context()) {
					if f != nil || !errors.Is(err, gotheus.ErrClosed) {
						t.Errorf("%v, %v", f, err)
					}
				}
				rec := httptest.NewRecorder()
				(&metrichttp.Handler{Registry: r}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
				if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "closed") {
					t.Errorf("%d: %s", rec.Code, rec.Body)
				}
			}
			noPage(r)
			noPage(outer)
			before, _ := os.ReadFile(file)
			err := r.WriteFile(t.Context(), file, nil)
			if after, _ := os.ReadFile(file); !errors.Is(err, gotheus.ErrClosed) || string(after) != string(before) {
				t.Errorf("WriteFile: %v, %s", err, after)
			}
			gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was pushed") }))
			defer gateway.Close()
			if err := (&metrichttp.Pusher{URL: gateway.URL, Job: "j", Registry: r}).Post(t.Context()); !errors.Is(err, gotheus.ErrClosed) {
				t.Errorf("Post: %v", err)
			}

			// Neither a second Close nor a bind that fails makes a page of it; a bind
			// does.
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
			noPage(r)
			if err := r.Bind(t.Context(), "shm:///nonexistent/dir/x"); err == nil {
				t.Error("bound")
			}
			noPage(r)
			noPage(outer)
			if s := log.String(); strings.Contains(s, "cannot be read") {
				t.Errorf("log: %s", s)
			}
			remove()
			pageHas(t, outer, "outer_total 1")
			want := "c_total 8"
			if name == "heap" { // it has lost the rest
				want = "c_total 1"
			}
			if err := bindTo(r); err != nil {
				t.Fatal(err)
			}
			pageHas(t, r, want)
		})
	}
}

// Closing a registry whose counts are still all in its heap changes nothing on its page.
func TestCloseUnbound(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	c := r.NewCounter("c_total", "C.", nil)
	c.Inc()
	for range 2 {
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		pageHas(t, r, "c_total 1")
	}
	r.Bind(t.Context(), "shm:///nonexistent/dir/x")
	if err := r.Close(t.Context()); err == nil {
		t.Error("closed without an error")
	}
	c.Inc()
	pageHas(t, r, "c_total 2")
}

// While a registry is closed and bound again under scrapes, there is no page on which a counter has
// gone back.
func TestScrapesMeetClose(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, nil)
	c := r.NewCounter("c_total", "C.", nil)
	bind(t, r, url)
	over := make(chan struct{})
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			last := 0.0
			for {
				select {
				case <-over:
					return
				default:
				}
				var sample float64
				for f, err := range r.Families(context.Background()) {
					if err != nil && !errors.Is(err, gotheus.ErrClosed) {
						t.Error(err)
					}
					if f == nil || f.Name != "c_total" {
						continue
					}
					for s := range f.Samples() {
						sample = s.Value
					}
					if sample < last {
						t.Errorf("%v after %v", sample, last)
					}
					last = sample
				}
				if err := r.WriteText(io.Discard); err != nil && !errors.Is(err, gotheus.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		c.Inc()
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Inc()
		bind(t, r, url)
	}
	close(over)
	wait.Wait()
	pageHas(t, r, "c_total 200")
}
