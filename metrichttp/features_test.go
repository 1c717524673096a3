package metrichttp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrichttp"
)

func ask(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

// TestHandlerFormats checks that the Content-Type matches the page.
func TestHandlerFormats(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	r.NewCounterVec("my.jobs_total", "Jobs.", nil, "host.name").With("a").Inc()
	h := &metrichttp.Handler{Registry: r, OpenMetrics2: true}
	for accept, want := range map[string][2]string{
		"": {"text/plain; version=0.0.4; charset=utf-8", "my_jobs_total{host_name=\"a\"} 1\n"},
		"text/plain;version=1.0.0;escaping=allow-utf-8":                   {"text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8", "{\"my.jobs_total\",\"host.name\"=\"a\"} 1\n"},
		"application/openmetrics-text;version=1.0.0":                      {"application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores", "# TYPE my_jobs counter\n"},
		"application/openmetrics-text;version=1.0.0;escaping=dots":        {"application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots", "my_dot_jobs__total{host_dot_name=\"a\"} 1\n"},
		"application/openmetrics-text;version=0.0.1":                      {"application/openmetrics-text; version=0.0.1; charset=utf-8", "my_jobs_total{host_name=\"a\"} 1\n# EOF\n"},
		"application/openmetrics-text;version=2.0.0;escaping=allow-utf-8": {"application/openmetrics-text; version=2.0.0; charset=utf-8; escaping=allow-utf-8", "# TYPE \"my.jobs_total\" counter\n"},
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=values": {
			"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=values", "U__my_2e_jobs__total"},
	} {
		rec := ask(h, "/metrics", "Accept", accept)
		if got := rec.Header().Get("Content-Type"); got != want[0] || !strings.Contains(rec.Body.String(), want[1]) {
			t.Errorf("%q: %s, page %q, want %q", accept, got, rec.Body, want)
		}
	}
}

func TestHandlerNames(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	r.NewCounter("a_total", "A.", nil)
	r.NewHistogram("b", "B.", nil)
	r.NewGauge("c.d", "C.", nil)
	r.NewGauge("e", "E.", nil)
	asked := 0
	r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		asked++
		s.Gauge("collected", "C.").Put(1)
		return nil
	}))
	h := &metrichttp.Handler{Registry: r}
	for query, want := range map[string]string{
		"?name[]=a_total":                 "a_total",
		"?name[]=a":                       "a_total", // its name in OpenMetrics
		"?name[]=a_created":               "a_total",
		"?name[]=b_bucket&name[]=a_total": "a_total b",
		"?name%5B%5D=b":                   "b",
		"?name[]=c_d":                     "c_d",
		"?name[]=c.d":                     "c_d",
		"?name[]=a_bucket":                "",
		"?name[]=nothing":                 "",
		"?name[]=e&name[]=collected":      "collected e",
		"?names=e":                        "a_total b c_d collected e",
	} {
		asked = 0
		var got []string
		for line := range strings.Lines(ask(h, "/metrics"+query).Body.String()) {
			if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
				got = append(got, strings.Fields(rest)[0])
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
		if needed := strings.Contains(want, "collected") || want == ""; (asked > 0) != needed {
			t.Errorf("%s: the collector was asked %d times", query, asked)
		}
	}
}

// Beyond MaxInFlight, scrapes wait for their turn, but neither for ever nor in any number.
func TestHandlerMaxInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		release := make(chan struct{})
		r.Register(gotheus.CollectorFunc(func(context.Context, *gotheus.Sink) error {
			<-release
			return nil
		}))
		h := &metrichttp.Handler{Registry: r, MaxInFlight: 1, Timeout: time.Hour}
		codes := make(chan int, 10)
		for range 5 { // one, and four that wait
			go func() { codes <- ask(h, "/").Code }()
			synctest.Wait()
		}
		start := time.Now()
		if rec := ask(h, "/"); rec.Code != 503 || !strings.Contains(rec.Body.String(), "in flight") || time.Since(start) > 0 {
			t.Errorf("one too many: %d %s after %v", rec.Code, rec.Body, time.Since(start))
		}
		close(release)
		for range 5 {
			if code := <-codes; code != 200 || time.Since(start) > 0 {
				t.Errorf("one that has waited: %d after %v", code, time.Since(start))
			}
		}
		if rec := ask(h, "/"); rec.Code != 200 {
			t.Errorf("afterwards: %d", rec.Code)
		}

		release = make(chan struct{})
		go func() { codes <- ask(h, "/").Code }()
		synctest.Wait()
		start = time.Now()
		if rec := ask(h, "/", "X-Prometheus-Scrape-Timeout-Seconds", "10"); rec.Code != 503 || time.Since(start) != 4750*time.Millisecond {
			t.Errorf("one that has waited for half of its time: %d after %v", rec.Code, time.Since(start))
		}
		close(release)
		<-codes
		start = time.Now()
		if rec := ask(h, "/"); rec.Code != 200 || time.Since(start) > 0 {
			t.Errorf("after one that has given up: %d after %v", rec.Code, time.Since(start))
		}
	})
}

// TestHandlerShares checks that scrapes that arrive during a collector's run share the next run,
// and so see the state at their arrival or later.
func TestHandlerShares(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	var runs, value atomic.Int64
	entered, release := make(chan struct{}, 100), make(chan struct{})
	r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		v := value.Load()
		runs.Add(1)
		entered <- struct{}{}
		<-release
		s.Gauge("value", "V.").Put(float64(v))
		return nil
	}))
	h := &metrichttp.Handler{Registry: r}
	var wait sync.WaitGroup
	scrape := func(want string) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if rec := ask(h, "/"); !strings.Contains(rec.Body.String(), want) {
				t.Errorf("page %q, want %q", rec.Body, want)
			}
		}()
	}
	scrape("value 0\n")
	<-entered
	value.Store(1)
	for range 20 {
		scrape("value 1\n")
	}
	close(release)
	wait.Wait()
	if n := runs.Load(); n < 2 || n > 21 {
		t.Errorf("%d runs for 21 scrapes", n)
	}
}

func TestHandlerStrict(t *testing.T) {
	t.Parallel()
	fine := newRegistry()
	fine.NewGauge("there", "T.", nil)
	if rec := ask(&metrichttp.Handler{Registry: fine, Strict: true}, "/"); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	collector := newRegistry()
	collector.Register(gotheus.CollectorFunc(func(context.Context, *gotheus.Sink) error { return errors.New("out of order") }))
	family := newRegistry()
	family.NewCounter("x_total", "X.", nil)
	family.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("x", "Clashes in OpenMetrics.").Put(1)
		return nil
	}))
	backend := newRegistry()
	if err := backend.BindBackend(t.Context(), failing{heap.New()}); err != nil {
		t.Fatal(err)
	}
	for why, r := range map[string]*gotheus.Registry{"out of order": collector, "x clashes with": family, "damaged": backend} {
		for _, coding := range []string{"identity", "gzip"} {
			rec := ask(&metrichttp.Handler{Registry: r, Strict: true}, "/", "Accept-Encoding", coding)
			if rec.Code != 500 || !strings.Contains(rec.Body.String(), "not be complete") || rec.Header().Get("Content-Encoding") != "" {
				t.Errorf("%s: %d %q", why, rec.Code, rec.Body)
			}
			// Whoever can reach the handler does not see what errors say.
			if strings.Contains(rec.Body.String(), why) {
				t.Errorf("the answer is %q", rec.Body)
			}
		}
		if err := r.Write(t.Context(), io.Discard, &gotheus.WriteOptions{Strict: true}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
		if rec := ask(&metrichttp.Handler{Registry: r}, "/"); rec.Code != 200 {
			t.Errorf("%s, not strict: %d", why, rec.Code)
		}
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	entered, release := make(chan struct{}), make(chan struct{})
	r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		entered <- struct{}{}
		<-release
		s.Gauge("slow", "S.").Put(1)
		return nil
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- metrichttp.Serve(ctx, l, &metrichttp.Handler{Registry: r}) }()
	body := make(chan string)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String() + "/metrics")
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		body <- string(b) + resp.Status + " " + errorText(err)
	}()
	<-entered
	cancel() // a scrape in flight is still answered
	close(release)
	if got := <-body; !strings.Contains(got, "slow 1\n200 OK") {
		t.Errorf("got %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the server still listens: %v", err)
	}
	if err := metrichttp.ListenAndServe(t.Context(), "not an address", nil); err == nil {
		t.Error("an address that is none")
	}
	if err := metrichttp.ListenAndServe(ctx, "127.0.0.1:0", nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func errorText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// gateway records what is pushed to it.
type gateway struct {
	method, path, contentType, user, password, body string
	status                                          int
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.method, g.path, g.contentType = r.Method, r.URL.EscapedPath(), r.Header.Get("Content-Type")
	g.user, g.password, _ = r.BasicAuth()
	b, _ := io.ReadAll(r.Body)
	g.body = string(b)
	w.WriteHeader(g.status)
	_, _ = io.WriteString(w, "what is wrong\n")
}

func TestPusher(t *testing.T) {
	t.Parallel()
	g := &gateway{status: 200}
	s, client := serve(t, g)
	r := newRegistry()
	r.NewCounter("rows_total", "Rows.", nil).Add(7)
	p := &metrichttp.Pusher{
		URL: s.URL + "/prefix/", Job: "nightly run", Registry: r, Client: client, User: "me", Password: "secret",
		Grouping: gotheus.Labels{"instance": "a/b", "zone": "", "plain": "x+y", "dotted.name": "..", "ünï": "ö"},
	}
	path := "/prefix/metrics/job/nightly%20run/U__dotted_2e_name@base64/" + base64.RawURLEncoding.EncodeToString([]byte("..")) +
		"/instance@base64/YS9i/plain/x+y/zone@base64/=/U___fc_n_ef_/%C3%B6"
	for method, call := range map[string]func(context.Context) error{"PUT": p.Put, "POST": p.Post, "DELETE": p.Delete} {
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
		body, contentType := "# HELP rows_total Rows.\n# TYPE rows_total counter\nrows_total 7\n", "text/plain; version=0.0.4; charset=utf-8"
		if method == "DELETE" {
			body, contentType = "", ""
		}
		if g.method != method || g.path != path || g.body != body || g.contentType != contentType || g.user != "me" || g.password != "secret" {
			t.Errorf("%s: got %+v, want path %s", method, g, path)
		}
	}
	g.status = 400
	if err := p.Put(t.Context()); err == nil || !strings.Contains(err.Error(), "what is wrong") || !strings.Contains(err.Error(), "400") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Put(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for want, p := range map[string]*metrichttp.Pusher{
		"Job is missing":        {URL: s.URL},
		"scheme and a host":     {URL: "gateway:9091/x", Job: "j"},
		"must not have a query": {URL: s.URL + "?a=b", Job: "j"},
		`grouping label "job"`:  {URL: s.URL, Job: "j", Grouping: gotheus.Labels{"job": "x"}},
		`grouping label "__a"`:  {URL: s.URL, Job: "j", Grouping: gotheus.Labels{"__a": "x"}},
		`value "\xff" is not U`: {URL: s.URL, Job: "j", Grouping: gotheus.Labels{"a": "\xff"}},
	} {
		if err := p.Delete(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// When a client disconnects, a collector that no other scrape waits for is stopped.
func TestHandlerClientGone(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	entered, stopped := make(chan struct{}), make(chan struct{})
	r.Register(gotheus.CollectorFunc(func(ctx context.Context, _ *gotheus.Sink) error {
		close(entered)
		<-ctx.Done()
		close(stopped)
		return ctx.Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	req := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
	(&metrichttp.Handler{Registry: r, Timeout: time.Hour}).ServeHTTP(httptest.NewRecorder(), req)
	<-stopped
}
