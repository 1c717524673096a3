package tests_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/store"
)

// brittle panics when it is asked for its text.
type brittle struct{}

func (brittle) String() string { panic("oops") }

// A function of the program that panics costs neither the update nor the program anything. The
// panic is counted, and logged with the name of the function.
func TestCallbacksPanic(t *testing.T) {
	t.Parallel()
	type fixture struct {
		*testing.T
		r *gotheus.Registry
	}
	noNow := &gotheus.RegistryOptions{Now: func() time.Time { panic("oops") }}
	noExemplar := &gotheus.RegistryOptions{Exemplar: func(context.Context) gotheus.Labels { panic("oops") }}
	serve := func(m *metrichttp.Middleware) {
		h := m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusTeapot {
			t.Errorf("status %d", w.Code)
		}
	}
	for what, c := range map[string]struct {
		o      *gotheus.RegistryOptions
		do     func(f fixture)
		sample string // that the page must have
		once   bool   // the number of panics is exactly one
	}{
		"RegistryOptions.Exemplar": {noExemplar, func(f fixture) {
			f.r.NewCounter("a_total", "A.", nil).AddContext(t.Context(), 2)
		}, "a_total 2", true},
		"RegistryOptions.Exemplar in a histogram": {noExemplar, func(f fixture) {
			f.r.NewHistogram("h", "H.", nil).ObserveContext(t.Context(), 3)
		}, "h_sum 3", true},
		"RegistryOptions.Now in ObserveSince": {noNow, func(f fixture) {
			f.r.NewHistogram("h", "H.", nil).ObserveSince(time.Now())
		}, "h_count 1", false},
		"RegistryOptions.Now on a page": {noNow, func(f fixture) {
			f.r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}}).Observe(1)
			f.r.NewGauge("g", "G.", nil).SetToCurrentTime()
		}, "s_count 1", false},
		"Normalize": {nil, func(f fixture) {
			o := &gotheus.CounterOptions{Normalize: normalizers{"a": func(string) string { panic("oops") }}}
			f.r.NewCounterVec("a_total", "A.", o, "a").With("x").Inc()
		}, `a_total{a="other"} 1`, true},
		"String": {nil, func(f fixture) {
			type labels struct{ A brittle }
			gotheus.Must(gotheus.TryNewVecOf[labels, gotheus.Counter](f.r, "a_total", "A.", nil)).With(labels{}).Inc()
		}, `a_total{a="other"} 1`, true},
		"Middleware.Route": {nil, func(f fixture) {
			serve(&metrichttp.Middleware{Registry: f.r, Route: func(*http.Request) string { panic("oops") }})
		}, `http_request_duration_seconds_count{method="GET",route="other",status_code="418"} 1`, true},
		"Middleware.Skip": {nil, func(f fixture) {
			serve(&metrichttp.Middleware{Registry: f.r, Skip: func(*http.Request) bool { panic("oops") }})
		}, `http_request_duration_seconds_count{method="GET",route="404",status_code="418"} 1`, true},
		"Pusher.Error": {nil, func(f fixture) {
			ctx, cancel := context.WithCancel(t.Context())
			p := &metrichttp.Pusher{URL: "http://gateway", Job: "j", Registry: f.r,
				Client: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) { return nil, errTest })},
				Error:  func(error) { cancel(); panic("oops") }}
			if err := p.Run(ctx, time.Hour); !errors.Is(err, errTest) {
				t.Errorf("Run: %v", err)
			}
		}, "", true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, log := newRegistry(t, c.o)
			c.do(fixture{t, r})
			if c.sample != "" {
				pageHas(t, r, c.sample)
			}
			if c.once {
				pageHas(t, r, "gotheus_callback_panics_total 1")
			} else {
				// A clock is called under locks, so this happens in the background.
				for !strings.Contains(selfPage(t, r), "\ngotheus_callback_panics_total ") || log.String() == "" {
					runtime.Gosched()
				}
			}
			what, _, _ := strings.Cut(what, " ")
			if text := log.String(); strings.Count(text, "a function of the program panicked") != 1 || !strings.Contains(text, what) || !strings.Contains(text, "oops") {
				t.Errorf("the log has\n%s", text)
			}
		})
	}
}

func selfPage(t *testing.T, r *gotheus.Registry) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Error(err)
	}
	return b.String()
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// brittleHandler is a slog.Handler that panics.
type brittleHandler struct{ slog.Handler }

func (brittleHandler) Enabled(context.Context, slog.Level) bool { return true }

func (brittleHandler) Handle(context.Context, slog.Record) error { panic("oops") }

// A logger that panics costs its message, neither the update that was to be logged nor the program.
func TestLoggerPanics(t *testing.T) {
	t.Parallel()
	logger := slog.New(brittleHandler{})
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: logger})
	defer r.Close(t.Context())
	c := r.NewCounter("a_total", "A.", nil)
	c.Add(-1)
	c.Add(2)
	pageHas(t, r, "a_total 2", `gotheus_rejected_updates_total{metric="a_total"} 1`, "gotheus_callback_panics_total 1")

	// In goroutines of the library, too, where it would be the end of the program.
	down := &downStore{called: make(chan struct{})}
	if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{down}, Options: store.Options{Logger: logger, Interval: 10 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		down.wait(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.Close(ctx); err == nil || !strings.Contains(err.Error(), "panic: oops") {
		t.Errorf("Close with a store that panics: %v", err)
	}
}

// downStore is a store whose methods panic.
type downStore struct {
	backendtest.Memory
	called chan struct{}
}

func (d *downStore) wait(t *testing.T) {
	t.Helper()
	select {
	case <-d.called:
	case <-time.After(time.Minute):
		t.Fatal("the store is not called again after a panic")
	}
}

func (d *downStore) Heads(context.Context, []string) (map[string]store.Head, error) {
	select {
	case d.called <- struct{}{}:
	default: // nobody waits
	}
	panic("oops")
}

// A driver that panics is one that fails.
func TestDriverPanics(t *testing.T) {
	t.Parallel()
	store.Register("brittle", func(context.Context, *url.URL, store.DriverOptions) (*store.Config, error) { panic("oops") })
	r, _ := newRegistry(t, nil)
	if err := r.Bind(t.Context(), "brittle://u:secret@h"); err == nil || !strings.Contains(err.Error(), "panic: oops") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got error %v", err)
	}
}
