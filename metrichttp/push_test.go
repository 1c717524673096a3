package metrichttp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/store"
)

// pushed is a page that has come to a gateway.
type pushed struct{ group, body string }

// serveGateway lets the test be the gateway: each push waits until its page is taken and a status
// given for it.
func serveGateway(t *testing.T) (url string, client *http.Client, pages chan pushed, status chan int) {
	pages, status = make(chan pushed), make(chan int)
	s, client := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		select {
		case pages <- pushed{r.Method + " " + r.URL.EscapedPath(), string(b)}:
		case <-t.Context().Done():
			return
		}
		w.WriteHeader(<-status)
		_, _ = io.WriteString(w, "no room")
	}))
	return s.URL, client, pages, status
}

// Pushes that fail are reported and do not end it; when ctx ends, what was counted last is pushed,
// with a context that has not ended.
func TestPusherRun(t *testing.T) {
	t.Parallel()
	url, client, pages, status := serveGateway(t)
	r := newRegistry()
	c := r.NewCounter("rows_total", "Rows.", nil)
	errs := make(chan error, 1)
	p := &metrichttp.Pusher{URL: url, Job: "j", Registry: r, Client: client, Error: func(err error) { errs <- err }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx, time.Millisecond) }()
	for i, s := range []int{200, 507, 200} {
		c.Inc()
		got := <-pages
		if got.group != "POST /metrics/job/j" || i == 0 && !strings.Contains(got.body, "rows_total ") {
			t.Errorf("pushed %q", got)
		}
		status <- s
		if s == 507 {
			if err := <-errs; err == nil || !strings.Contains(err.Error(), "no room") {
				t.Errorf("got %v", err)
			}
		}
	}
	<-pages // it goes on
	c.Add(10)
	cancel()
	status <- 200
	if got := <-pages; !strings.Contains(got.body, "\nrows_total 13\n") {
		t.Errorf("at last %q", got)
	}
	status <- 507
	if err := <-done; err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("Run returned %v", err)
	}
	select {
	case err := <-errs:
		t.Errorf("reported %v", err)
	default:
	}
}

// With a context that has ended, there is nothing but the last push.
func TestPusherRunEnded(t *testing.T) {
	t.Parallel()
	url, client, pages, status := serveGateway(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error)
	go func() {
		done <- (&metrichttp.Pusher{URL: url, Job: "j", Registry: newRegistry(), Client: client}).Run(ctx, time.Hour)
	}()
	<-pages
	status <- 202
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A Pusher that can never work says so before anything is sent, by every method.
func TestPusherInvalid(t *testing.T) {
	t.Parallel()
	var none context.Context
	for want, c := range map[string]struct {
		p   *metrichttp.Pusher
		ctx context.Context
	}{
		"Pusher: it is nil":             {nil, t.Context()},
		"the context is nil":            {&metrichttp.Pusher{URL: "http://x", Job: "j"}, none},
		"Job is missing":                {&metrichttp.Pusher{URL: "http://x"}, t.Context()},
		"must have a scheme and a host": {&metrichttp.Pusher{Job: "j"}, t.Context()},
	} {
		for name, f := range map[string]func(context.Context) error{
			"Put": c.p.Put, "Post": c.p.Post, "Delete": c.p.Delete,
			"Run": func(ctx context.Context) error { return c.p.Run(ctx, time.Second) },
		} {
			if err := f(c.ctx); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", name, err, want)
			}
		}
	}
	for _, every := range []time.Duration{0, -time.Second} {
		err := (&metrichttp.Pusher{URL: "http://x", Job: "j"}).Run(t.Context(), every)
		if want := every.String() + " must be positive"; !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Without a function for errors, the registry's logger has them.
func TestPusherLogs(t *testing.T) {
	t.Parallel()
	url, client, pages, status := serveGateway(t)
	lines := make(chan string, 1)
	logger := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) { lines <- string(b) }), nil))
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: logger})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- (&metrichttp.Pusher{URL: url, Job: "j", Registry: r, Client: client}).Run(ctx, time.Hour)
	}()
	<-pages
	status <- 507
	if line := <-lines; !strings.Contains(line, "a push failed") || !strings.Contains(line, "no room") {
		t.Errorf("logged %q", line)
	}
	cancel()
	<-pages
	status <- 200
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// Two processes that share a backend push to groups of their own: with ScopeLeader, the total is in
// one of them.
func TestPusherOfTwoProcesses(t *testing.T) {
	t.Parallel()
	memory := new(backendtest.Memory)
	bodies := map[string]string{}
	var registries []*gotheus.Registry
	for range 2 {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
		if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{memory}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(context.Background()) })
		r.NewCounter("jobs_total", "Jobs.", nil).Inc()
		r.NewGauge("own", "Own.", &gotheus.GaugeOptions{Mode: gotheus.ModePerProcess}).Set(5)
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		registries = append(registries, r)
	}
	url, client, pages, status := serveGateway(t)
	push := func(i int, scope gotheus.Scope) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := &metrichttp.Pusher{URL: url, Job: "j", Grouping: gotheus.Labels{"instance": string(rune('a' + i))},
			Registry: registries[i], Client: client, Scope: scope}
		done := make(chan error)
		go func() { done <- p.Run(ctx, time.Hour) }()
		<-pages
		status <- 200
		cancel()
		got := <-pages
		status <- 200
		if err := <-done; err != nil {
			t.Error(err)
		}
		return got.body
	}
	for i := range registries {
		bodies["all"+string(rune('0'+i))] = push(i, gotheus.ScopeAll)
		bodies["leader"+string(rune('0'+i))] = push(i, gotheus.ScopeLeader)
		bodies["own"+string(rune('0'+i))] = push(i, gotheus.ScopeOwn)
	}
	for name, want := range map[string]string{
		"all0": "jobs_total 2", "all1": "jobs_total 2", "leader0": "jobs_total 2", "own0": "jobs_total 1", "own1": "jobs_total 1", "leader1": "own 5",
	} {
		if !strings.Contains(bodies[name], "\n"+want+"\n") {
			t.Errorf("%s lacks %q: %s", name, want, bodies[name])
		}
	}
	if strings.Contains(bodies["leader1"], "jobs_total") {
		t.Errorf("the total is pushed twice: %s", bodies["leader1"])
	}
}

// Headers and names are those that were asked for.
func TestPusherFields(t *testing.T) {
	t.Parallel()
	header, body := make(chan http.Header, 1), make(chan string, 1)
	s, client := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		header <- r.Header
		body <- string(b)
	}))
	r := newRegistry()
	r.NewCounter("a_total", "A.", nil)
	r.NewCounter("b_total", "B.", nil)
	mine := http.Header{"X-Scope-Orgid": {"me", "you"}, "Content-Type": {"nonsense"}}
	p := &metrichttp.Pusher{URL: s.URL, Job: "j", Registry: r, Client: client, Names: []string{"b_total"}, Header: mine}
	if err := p.Put(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := <-header; strings.Join(h["X-Scope-Orgid"], ",") != "me,you" || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
		t.Errorf("headers %v", h)
	}
	if b := <-body; strings.Contains(b, "a_total") || !strings.Contains(b, "b_total 0") {
		t.Errorf("page %s", b)
	}
	if mine.Get("Content-Type") != "nonsense" {
		t.Error("the caller's header was changed")
	}
}

// Errors about URLs do not contain passwords.
func TestPushErrorsAreRedacted(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"http://me:se%cret@gateway", "http://me:se#cret@gateway:x", "me:secret@gateway:9091", "http://me:secret@gateway?x=1", "//me:secret@gateway"} {
		err := (&metrichttp.Pusher{URL: u, Job: "j"}).Put(t.Context())
		if !errors.Is(err, gotheus.ErrInvalid) || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestServeNothing(t *testing.T) {
	t.Parallel()
	var none context.Context
	for want, f := range map[string]func() error{
		"ListenAndServe: the context is nil": func() error { return metrichttp.ListenAndServe(none, "localhost:0", nil) },
		"Serve: the context is nil":          func() error { return metrichttp.Serve(none, nil, nil) },
		"Serve: the listener is nil":         func() error { return metrichttp.Serve(t.Context(), nil, nil) },
	} {
		if err := f(); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestNilHandlerAndCoding(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(){
		"Middleware.Wrap: the handler is nil":     func() { new(metrichttp.Middleware).Wrap(nil) },
		`RegisterCoding "x": the function is nil`: func() { metrichttp.RegisterCoding("x", nil) },
	} {
		func() {
			defer func() {
				err, _ := recover().(error)
				if !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}()
			f()
		}()
	}
}
