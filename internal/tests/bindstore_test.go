package tests_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/store"
)

// closable is a store in memory that counts calls of Close.
type closable struct {
	backendtest.Memory
	closed atomic.Int64
}

func (c *closable) Close() error { c.closed.Add(1); return nil }

// Registries that are bound to the same stores share metrics, and Close closes the stores.
func TestBindStore(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{1, 3} {
		list := make([]closable, shards)
		c := new(store.Config)
		for i := range list {
			c.Shards = append(c.Shards, &list[i])
		}
		for i, want := range []string{"c_total{x=\"a\"} 1\nc_total{x=\"b\"} 2\n", "c_total{x=\"a\"} 2\nc_total{x=\"b\"} 4\n"} {
			r, _ := newRegistry(t, nil)
			v := r.NewCounterVec("c_total", "C.", nil, "x")
			v.With("a").Inc()
			if err := r.BindStore(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			v.With("b").Add(2)
			if p := page(t, r); !strings.Contains(p, want) {
				t.Errorf("%d shards: no %s in\n%s", shards, want, p)
			}
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
			for n := range list {
				if got := list[n].closed.Load(); got != int64(i+1) {
					t.Errorf("store %d of %d was closed %d times, want %d", n, shards, got, i+1)
				}
			}
		}
	}
}

// Invalid stores are refused at once, and the registry keeps its backend.
func TestBindNothing(t *testing.T) {
	t.Parallel()
	s := new(closable)
	r, _ := newRegistry(t, nil)
	for want, c := range map[string]*store.Config{
		"the Config is nil":                                 nil,
		"Config.Shards is empty":                            {},
		"Config.Shards[1] is nil":                           {Shards: []store.Store{s, nil}},
		"Config.Shards[1] is a nil *tests_test.closable":    {Shards: []store.Store{s, (*closable)(nil)}},
		"Alive=1ns: Alive must be at least twice as long":   {Shards: []store.Store{s}, Options: store.Options{Alive: 1}},
		"Timeout=-1ns: must be a time above zero, or 0 for": {Shards: []store.Store{s}, Options: store.Options{Timeout: -1}},
	} {
		if err := r.BindStore(t.Context(), c); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
	if s.closed.Load() != 0 {
		t.Error("a store was closed that was not taken")
	}
	bind(t, r, "heap:")
	if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{s}}); !errors.Is(err, gotheus.ErrBound) || s.closed.Load() != 0 {
		t.Errorf("bound already: %v; the store was closed %d times", err, s.closed.Load())
	}
}

// Stores that could not be bound in time still belong to the caller, who can bind them later.
func TestBindStoreFails(t *testing.T) {
	t.Parallel()
	s := new(closable)
	c := &store.Config{Shards: []store.Store{s}}
	r, _ := newRegistry(t, nil)
	r.NewCounter("c_total", "C.", nil).Inc() // gives Families something to yield
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	for range r.Families(t.Context()) {
		err = r.BindStore(ended, c)
		break
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("bound during a scrape: %v", err)
	}
	if heads, err := s.Heads(t.Context(), nil); len(heads) > 0 || err != nil || s.closed.Load() != 0 {
		t.Errorf("the store was used: %d heads, %v, closed %d times", len(heads), err, s.closed.Load())
	}
	if err := r.BindStore(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil || s.closed.Load() != 1 {
		t.Errorf("%v; closed %d times", err, s.closed.Load())
	}
}

// The package-level functions use the default registry.
func TestBindDefault(t *testing.T) { // not parallel: there is one default registry
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	r, _ := newRegistry(t, nil)
	gotheus.SetDefault(r)
	for what, bind := range map[string]func() error{
		"BindStore": func() error {
			return gotheus.BindStore(t.Context(), &store.Config{Shards: []store.Store{new(closable)}})
		},
		"Bind": func() error { return gotheus.Bind(t.Context(), shmURL(t)) },
	} {
		if err := bind(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := bind(); !errors.Is(err, gotheus.ErrBound) {
			t.Errorf("%s again: %v", what, err)
		}
		if err := gotheus.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// The package-level functions without a test of their own use the default registry, too.
func TestDefaultRegistry(t *testing.T) { // not parallel: there is one default registry
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	gotheus.SetDefault(r)
	if err := gotheus.BindBackend(t.Context(), heap.New()); err != nil {
		t.Fatal(err)
	}
	gotheus.Sub("part_", gotheus.Labels{"part": "a"}).NewCounter("c_total", "C.", nil).Inc()
	other := gotheus.NewRegistry(nil)
	other.NewGauge("other", "O.", nil).Set(2)
	remove := gotheus.Include(other)
	name := filepath.Join(t.TempDir(), "page.prom")
	page := func() string {
		t.Helper()
		var text strings.Builder
		if err := errors.Join(gotheus.WriteText(&text), gotheus.WriteFile(t.Context(), name, nil)); err != nil {
			t.Error(err)
		}
		if file, err := os.ReadFile(name); err != nil || string(file) != text.String() {
			t.Errorf("the file has %q, the page %q; %v", file, &text, err)
		}
		return text.String()
	}
	const counter, gauge = "part_c_total{part=\"a\"} 1\n", "other 2\n"
	if got := page(); !strings.Contains(got, counter) || !strings.Contains(got, gauge) {
		t.Errorf("the page has %q", got)
	}
	remove()
	if !gotheus.HideFamily("part_c_total") || page() != "" {
		t.Errorf("the page has %q, want nothing", page())
	}
}

var driverLoggers = make(chan *slog.Logger, 1)

func init() {
	store.Register("test-logs", func(_ context.Context, _ *url.URL, o store.DriverOptions) (*store.Config, error) {
		driverLoggers <- o.Logger
		return &store.Config{Shards: []store.Store{new(backendtest.Memory)}}, nil
	})
}

// A driver's logger writes to the registry's current logger.
func TestDriverLogger(t *testing.T) { // not parallel: it sets slog's default
	defer slog.SetDefault(slog.Default())
	r := new(gotheus.Registry)
	defer r.Close(context.Background())
	bind(t, r, "test-logs:")
	l := <-driverLoggers
	with := l.With("a", 1).WithGroup("g").With("b", 2)
	for i, to := range []func(*slog.Logger){slog.SetDefault, r.SetLogger, r.SetLogger, func(l *slog.Logger) {
		slog.SetDefault(l)
		r.SetLogger(nil)
	}} {
		log := new(testLog)
		to(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})))
		l.Info("not for this handler")
		l.Warn("plain")
		with.Warn("within", "c", 3)
		l.With("d", 4).Warn("by itself")
		for _, want := range []string{"level=WARN msg=plain\n", "msg=within a=1 g.b=2 g.c=3\n", "msg=\"by itself\" d=4\n"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("logger %d: no %s in %s", i, want, log)
			}
		}
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Errorf("logger %d: %d lines: %s", i, n, log)
		}
	}
}

// So do stores whose options have no logger.
func TestStoreLogger(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		r, log := newRegistry(t, nil)
		other := new(testLog)
		c := &store.Config{Shards: []store.Store{&failingStore{Store: new(backendtest.Memory)}}}
		c.Shards[0].(*failingStore).fail.Store(true)
		c.Options.Interval = 1
		if own {
			c.Options.Logger = slog.New(slog.NewTextHandler(other, nil))
			log, other = other, log
		}
		if err := r.BindStore(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		backendtest.Eventually(t, "what fails is logged", func() bool { return strings.Contains(log.String(), "the network is down") })
		if strings.Contains(other.String(), "the network is down") {
			t.Errorf("own logger %v: the line went to the other one", own)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.Close(ctx)
	}
}

// A gauge that was set before its process used a store replaces the value that another process has
// set, as it does when it is set afterwards; one that was only added to is added.
func TestSetBeforeBindStore(t *testing.T) {
	t.Parallel()
	s := new(backendtest.Memory)
	var last *gotheus.Registry
	for range 2 {
		r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		r.NewGauge("set", "S.", nil).Set(5)
		r.NewGauge("added", "A.", nil).Add(5)
		if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{s}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		last = r
	}
	pageHas(t, last, "set 5", "added 10")
}
