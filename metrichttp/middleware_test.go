package metrichttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

// want compares what was measured. Its keys are "METHOD ROUTE STATUS".
func want(t testing.TB, r *gotheus.Registry, want map[string]sums) {
	t.Helper()
	if got := measured(t, r); !maps.Equal(got, want) {
		t.Errorf("measured\n%v, want\n%v", got, want)
	}
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func TestMiddlewareLabels(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("GET /items/{id}", answer("item"))
	mux.Handle("POST  /spaces/{rest...}", answer(""))
	mux.Handle("/any", answer("any"))
	mux.Handle("GET example.com/host", answer("host"))
	mux.Handle("/tree/", answer("tree"))
	mux.Handle("/connect/{id}/", answer("connected"))
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		var code int
		_, _ = fmt.Sscan(r.PathValue("code"), &code)
		w.WriteHeader(code)
	})
	api := http.NewServeMux()
	api.Handle("/api/v1", answer(""))
	mux.Handle("/api/", api)
	mux.Handle("/stripped/", http.StripPrefix("/stripped", api))

	for _, c := range []struct{ method, target, labels string }{
		{"GET", "/items/1", "GET /items/{id} 200"},
		{"HEAD", "/items/2", "HEAD /items/{id} 200"},
		{"DELETE", "/items/1", "DELETE 404 405"},
		{"POST", "/spaces/a/b", "POST /spaces/{rest...} 200"},
		{"GET", "http://example.com/host", "GET example.com/host 200"},
		{"GET", "http://other.example/host", "GET 404 404"},
		{"GET", "/nowhere", "GET 404 404"},
		{"GET", "/tree", "GET /tree/ 307"},
		{"GET", "/tree/branch", "GET /tree/ 200"},
		{"GET", "/x/..//any", "GET /any 307"},
		{"OPTIONS", "*", "OPTIONS 404 400"},
		{"GET", "/api/v1", "GET /api/v1 200"},
		{"GET", "/api/v2", "GET 404 404"},
		{"GET", "/stripped/api/v1", "GET /stripped/ 200"},
		// A mux notes the path, not a pattern, when it redirects these.
		{"CONNECT", "/tree", "CONNECT 404 307"},
		{"CONNECT", "/connect/made-up-1", "CONNECT 404 307"},
		{"CONNECT", "/connect/made-up%2F", "CONNECT 404 307"},
		{"CONNECT", "/connect/1/", "CONNECT /connect/{id}/ 200"},
		{"CONNECT", "/tree/branch", "CONNECT /tree/ 200"},
		{"PUT", "/any", "PUT /any 200"},
		{"PATCH", "/any", "PATCH /any 200"},
		{"TRACE", "/any", "TRACE /any 200"},
		{"BREW", "/any", "other /any 200"},
		{"get", "/any", "other /any 200"},
		{"GET", "/status/204", "GET /status/{code} 204"},
		{"GET", "/status/599", "GET /status/{code} 599"},
		{"GET", "/status/600", "GET /status/{code} other"},
		{"GET", "/status/999", "GET /status/{code} other"},
	} {
		r := newRegistry()
		h := (&metrichttp.Middleware{Registry: r}).Wrap(mux)
		req := httptest.NewRequest(c.method, c.target, nil)
		h.ServeHTTP(httptest.NewRecorder(), req)
		got := slices.Collect(maps.Keys(measured(t, r)))
		if !slices.Equal(got, []string{c.labels}) {
			t.Errorf("%s %s: labels %q, want %q", c.method, c.target, got, c.labels)
		}
	}
}

func TestMiddlewareWithinMux(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	m := &metrichttp.Middleware{Registry: r}
	mux := http.NewServeMux()
	mux.Handle("GET /a/{x}", m.Wrap(answer("a")))
	mux.Handle("/b", m.Wrap(answer("b")))
	for _, target := range []string{"/a/1", "/a/2", "/b", "/c"} {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
	}
	want(t, r, map[string]sums{"GET /a/{x} 200": {requests: 2, sent: 2}, "GET /b 200": {requests: 1, sent: 1}})
}

// TestMiddlewareCopiedRequest checks what the documentation says about handlers between the
// middleware and the mux.
func TestMiddlewareCopiedRequest(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("/a/{x}", answer(""))
	type key struct{}
	copying := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, 1)))
	})
	patternOf := func(r *http.Request) string {
		_, pattern := mux.Handler(r)
		return "asked " + pattern
	}
	for _, c := range []struct {
		name  string
		wrap  func(*metrichttp.Middleware) http.Handler
		route func(*http.Request) string
		want  string
	}{
		{"between", func(m *metrichttp.Middleware) http.Handler { return m.Wrap(copying) }, nil, "GET 404 200"},
		{"Route", func(m *metrichttp.Middleware) http.Handler { return m.Wrap(copying) }, patternOf, "GET asked /a/{x} 200"},
		{"outside", func(m *metrichttp.Middleware) http.Handler {
			h := m.Wrap(mux)
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r.WithContext(context.TODO())) })
		}, nil, "GET /a/{x} 200"},
	} {
		r := newRegistry()
		c.wrap(&metrichttp.Middleware{Registry: r, Route: c.route}).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/a/1", nil))
		if m := measured(t, r); m[c.want].requests != 1 || len(m) != 1 {
			t.Errorf("%s: measured %v, want %s", c.name, m, c.want)
		}
	}
}

func TestMiddlewareRoute(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	handled := false
	h := (&metrichttp.Middleware{Registry: r, Route: func(r *http.Request) string {
		if !handled {
			t.Error("Route was asked before the handler")
		}
		return r.URL.Path + "\xff"
	}}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handled = true }))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/r", nil))
	want(t, r, map[string]sums{"GET /r\uFFFD 200": {requests: 1}})
}

func TestMiddlewareSizes(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("/all", func(w http.ResponseWriter, r *http.Request) {
		// HTTP/1 may end the request's body when the response begins
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/ten", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 10)
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		_, _ = w.Write([]byte("not allowed")) // and not sent
	})
	mux.Handle("/text", answer("some text"))
	mux.Handle("/empty", answer(""))
	s, client := serve(t, (&metrichttp.Middleware{Registry: r}).Wrap(mux))

	body := strings.Repeat("x", 10_000)
	for _, c := range []struct {
		method, path string
		body         io.Reader
	}{
		{"POST", "/all", strings.NewReader(body)},
		{"PUT", "/all", io.MultiReader(strings.NewReader(body))}, // sent in chunks
		{"POST", "/ten", strings.NewReader(body)},
		{"PUT", "/ten", io.MultiReader(strings.NewReader(body))},
		{"GET", "/none", nil},
		{"GET", "/text", nil},
		{"HEAD", "/text", nil},
		{"GET", "/empty", nil},
	} {
		req, err := http.NewRequest(c.method, s.URL+c.path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		before := measured(t, r)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if maps.Equal(before, measured(t, r)) {
			t.Errorf("%s %s: not counted when the response had arrived", c.method, c.path)
		}
	}
	want(t, r, map[string]sums{
		"POST /all 200":  {1, 10_000, 10_000},
		"PUT /all 200":   {1, 10_000, 10_000},
		"POST /ten 202":  {1, 10_000, 0},
		"PUT /ten 202":   {1, 10, 0},
		"GET /none 204":  {1, 0, 0},
		"GET /text 200":  {1, 0, 9},
		"HEAD /text 200": {1, 0, 0},
		"GET /empty 200": {1, 0, 0},
	})
}

var errBoom = errors.New("boom")

func boom(http.ResponseWriter, *http.Request) { panic(errBoom) }

func TestMiddlewarePanics(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("/before", boom)
	mux.HandleFunc("/after", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "partial")
		boom(w, r)
	})
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/invalid", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(7) })
	h := (&metrichttp.Middleware{Registry: r}).Wrap(mux)

	s, client := serve(t, h)
	if _, err := client.Get(s.URL + "/before"); err == nil {
		t.Error("the server has answered in spite of the panic")
	}
	for path, value := range map[string]any{"/before": errBoom, "/after": errBoom, "/abort": http.ErrAbortHandler} {
		func() {
			defer func() {
				if got := recover(); got != value {
					t.Errorf("%s: panic with %v, want %v", path, got, value)
				}
				if stack := string(debug.Stack()); value == errBoom && !strings.Contains(stack, "metrichttp_test.boom(") {
					t.Errorf("%s: the stack is lost:\n%s", path, stack)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}()
	}
	func() {
		defer func() { _ = recover() }()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/invalid", nil))
	}()
	want(t, r, map[string]sums{
		"GET /before 500":  {requests: 2},
		"GET /after 500":   {requests: 1, sent: 7},
		"GET /abort 500":   {requests: 1},
		"GET /invalid 500": {requests: 1},
	})
}

func TestMiddlewareGoexit(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	h := (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runtime.Goexit() }))
	var wait sync.WaitGroup
	wait.Go(func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) })
	wait.Wait()
	want(t, r, map[string]sums{"GET 404 500": {requests: 1}})
}

func TestMiddlewareSkip(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	var same bool
	rec := httptest.NewRecorder()
	h := (&metrichttp.Middleware{Registry: r, Skip: func(r *http.Request) bool { return r.URL.Path == "/healthz" }}).
		Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { same = w == http.ResponseWriter(rec) }))
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/healthz", nil))
	if !same {
		t.Error("a skipped request got another ResponseWriter")
	}
	want(t, r, map[string]sums{})
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/else", nil))
	want(t, r, map[string]sums{"GET 404 200": {requests: 1}})
}

func TestMiddlewareFamilies(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	m := &metrichttp.Middleware{Registry: r, Prefix: "shop_", Duration: &gotheus.HistogramOptions{Buckets: []float64{1}}}
	h := m.Wrap(answer("x"))
	for _, name := range []string{"shop_http_request_duration_seconds", "shop_http_request_size_bytes", "shop_http_response_size_bytes"} {
		if !strings.Contains(pageOf(t, r), "# TYPE "+name+" histogram\n") {
			t.Errorf("%s does not exist before the first request", name)
		}
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	page := pageOf(t, r)
	for name, bounds := range map[string]string{
		"shop_http_request_duration_seconds": "1 +Inf",
		"shop_http_request_size_bytes":       "10 100 1000 10000 100000 1e+06 1e+07 1e+08 +Inf",
		"shop_http_response_size_bytes":      "10 100 1000 10000 100000 1e+06 1e+07 1e+08 +Inf",
	} {
		var got []string
		for line := range strings.SplitSeq(page, "\n") {
			if strings.HasPrefix(line, name+"_bucket") {
				_, le, _ := strings.Cut(line, `le="`)
				le, _, _ = strings.Cut(le, `"`)
				got = append(got, le)
			}
		}
		if strings.Join(got, " ") != bounds {
			t.Errorf("%s has bounds %v, want %s", name, got, bounds)
		}
	}
	m.Wrap(answer("y")) // shares the histograms

	defer func() {
		if err, _ := recover().(error); !errors.Is(err, gotheus.ErrConflict) {
			t.Errorf("Wrap with other buckets: %v, want ErrConflict", err)
		}
	}()
	m.Duration.Buckets = []float64{2}
	m.Wrap(answer("z"))
}

func TestMiddlewareDuration(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	h := (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		for start := time.Now(); time.Since(start) < time.Millisecond; {
		}
	}))
	start := time.Now()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	most := time.Since(start).Seconds()
	v := r.NewHistogramVec("http_request_duration_seconds", "How long handlers of HTTP requests took.",
		&gotheus.HistogramOptions{Unit: "seconds"}, "method", "route", "status_code")
	if sum := v.With("GET", "404", "200").Sum(); sum < 0.001 || sum > most {
		t.Errorf("took %v s, want 0.001 to %v", sum, most)
	}
}

func TestMiddlewareConcurrent(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	mux := http.NewServeMux()
	for i := range 10 {
		mux.HandleFunc(fmt.Sprintf("/%d", i), func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			w.WriteHeader(400 + i)
			_, _ = w.Write(make([]byte, n))
		})
	}
	h := (&metrichttp.Middleware{Registry: r}).Wrap(mux)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 100 {
				req := httptest.NewRequest("POST", fmt.Sprintf("/%d", i%10), io.MultiReader(strings.NewReader("body")))
				h.ServeHTTP(httptest.NewRecorder(), req)
			}
		})
	}
	wait.Wait()
	expected := make(map[string]sums)
	for i := range 10 {
		expected[fmt.Sprintf("POST /%d %d", i, 400+i)] = sums{80, 80 * 4, 80 * 4}
	}
	want(t, r, expected)
}

// TestMiddlewareLateReader has a handler that reads after the response was sent, which can happen
// when http.TimeoutHandler has given up on it.
func TestMiddlewareLateReader(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	body, sender := io.Pipe()
	var wait sync.WaitGroup
	wait.Add(1)
	h := (&metrichttp.Middleware{Registry: r}).Wrap(http.TimeoutHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer wait.Done()
		_, _ = io.Copy(io.Discard, r.Body)
	}), time.Nanosecond, "late"))
	req := httptest.NewRequest("POST", "/", nil)
	req.Body, req.ContentLength = body, -1
	h.ServeHTTP(httptest.NewRecorder(), req)
	_, _ = io.WriteString(sender, "too late")
	_ = sender.Close()
	wait.Wait()
	want(t, r, map[string]sums{"POST 404 503": {requests: 1, sent: 4}})
}
