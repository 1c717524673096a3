package metrichttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrichttp"
)

// largeRegistry returns a registry with a page of about n × 64 KiB that is cheap to create.
func largeRegistry(n int) *gotheus.Registry {
	r := newRegistry()
	filler := strings.Repeat("0123456789abcdef", 3<<10)
	v := r.NewGaugeVec("large", "A large page.", &gotheus.GaugeOptions{MaxValueLength: -1}, "number", "value")
	for i := range n {
		v.With(strconv.Itoa(i), filler)
	}
	return r
}

// serveSlowly is serve with connections that buffer little unread data.
func serveSlowly(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
		return ctx
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// get sends a request; header is a list of names and values.
func get(t testing.TB, c *http.Client, method, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	if req.Header.Get("Accept-Encoding") == "" {
		// otherwise the client asks for gzip itself
		req.Header.Set("Accept-Encoding", "identity")
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func checkHeader(t testing.TB, h http.Header, coding string) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type":     "text/plain; version=0.0.4; charset=utf-8",
		"Cache-Control":    "no-store",
		"Vary":             "Accept, Accept-Encoding",
		"Content-Encoding": coding,
	} {
		if got := strings.Join(h.Values(name), ", "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	r.NewCounter("jobs_total", "Jobs.", nil).Add(3)
	page := pageOf(t, r)
	s, client := serve(t, &metrichttp.Handler{Registry: r})

	resp, body := get(t, client, "GET", s.URL)
	if resp.StatusCode != 200 || string(body) != page || page == "" {
		t.Errorf("GET: %s, body %q, want %q", resp.Status, body, page)
	}
	checkHeader(t, resp.Header, "")

	resp, body = get(t, client, "HEAD", s.URL)
	if resp.StatusCode != 200 || len(body) != 0 {
		t.Errorf("HEAD: %s, body %q", resp.Status, body)
	}
	checkHeader(t, resp.Header, "")

	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
		resp, body = get(t, client, method, s.URL)
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" || strings.Contains(string(body), "jobs") {
			t.Errorf("%s: %s, Allow %q, body %q", method, resp.Status, resp.Header.Get("Allow"), body)
		}
	}
}

func TestHandlerGzip(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*gotheus.Registry{"small": newRegistry(), "large": largeRegistry(5), "empty": newRegistry()} {
		if name == "small" {
			r.NewGauge("one", "A gauge.", nil).Set(1)
		}
		page := pageOf(t, r)
		s, client := serve(t, &metrichttp.Handler{Registry: r})
		for range 3 { // writers are used again
			resp, body := get(t, client, "GET", s.URL, "Accept-Encoding", "gzip")
			checkHeader(t, resp.Header, "gzip")
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(z); err != nil || string(got) != page {
				t.Errorf("%s: %d bytes, want %d, %v", name, len(got), len(page), err)
			}
		}
		resp, _ := get(t, client, "HEAD", s.URL, "Accept-Encoding", "gzip")
		checkHeader(t, resp.Header, "gzip")

		s, client = serve(t, &metrichttp.Handler{Registry: r, NoCompression: true})
		resp, body := get(t, client, "GET", s.URL, "Accept-Encoding", "gzip")
		checkHeader(t, resp.Header, "")
		if string(body) != page {
			t.Errorf("%s without compression: %d bytes, want %d", name, len(body), len(page))
		}
	}
}

func TestHandlerDefaults(t *testing.T) {
	t.Parallel()
	gotheus.NewCounter("metrichttp_test_total", "Of the default registry.", nil)
	rec := httptest.NewRecorder()
	new(metrichttp.Handler).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(rec.Body.String(), "metrichttp_test_total 0\n") {
		t.Errorf("page %q", rec.Body)
	}
}

// gone is a client that disconnects after a number of bytes.
type gone struct {
	*httptest.ResponseRecorder
	after int
	leave func()
	err   error
}

func (g *gone) Write(p []byte) (int, error) {
	if g.Body.Len()+len(p) > g.after {
		g.leave()
		if g.err != nil {
			return 0, g.err
		}
	}
	return g.ResponseRecorder.Write(p)
}

// aborts calls f and reports whether it panics with http.ErrAbortHandler.
func aborts(f func()) (yes bool) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			yes = true
		}
	}()
	f()
	return false
}

// TestHandlerStreams has clients disconnect after the beginning of a page: no more may be written.
func TestHandlerStreams(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	v := r.NewGaugeVec("large", "Values that compress badly.", &gotheus.GaugeOptions{MaxValueLength: -1}, "value")
	random := rand.NewChaCha8([32]byte{1})
	for range 40 {
		value := make([]byte, 16<<10)
		_, _ = random.Read(value)
		v.With(hex.EncodeToString(value))
	}
	for _, coding := range []string{"identity", "gzip"} {
		whole := ask(&metrichttp.Handler{Registry: r}, "/", "Accept-Encoding", coding).Body.Len()
		for name, err := range map[string]error{"context": nil, "error": errors.New("broken pipe")} {
			ctx, cancel := context.WithCancel(t.Context())
			req := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
			req.Header.Set("Accept-Encoding", coding)
			g := &gone{ResponseRecorder: httptest.NewRecorder(), leave: cancel, err: err}
			if !aborts(func() { (&metrichttp.Handler{Registry: r}).ServeHTTP(g, req) }) {
				t.Errorf("%s, %s: an incomplete page ends like a complete one", coding, name)
			}
			if n := g.Body.Len(); n > whole/2 || err == nil && n == 0 {
				t.Errorf("%s, %s: %d of %d bytes were written", coding, name, n, whole)
			}
			cancel()
		}
	}
}

// observed passes requests on, and reports when they were answered and whether they were aborted.
func observed(h http.Handler) (http.Handler, <-chan bool) {
	done := make(chan bool, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		aborted := true
		defer func() { done <- aborted }()
		h.ServeHTTP(w, r)
		aborted = false
	}), done
}

func TestHandlerClientCloses(t *testing.T) {
	t.Parallel()
	h, done := observed(&metrichttp.Handler{Registry: largeRegistry(100), NoCompression: true})
	s := serveSlowly(t, h)
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if !<-done {
		t.Error("the page was written to a client that is gone")
	}
}

// TestHandlerClientStalls checks that a client that does not read is not waited for.
func TestHandlerClientStalls(t *testing.T) {
	t.Parallel()
	h, done := observed(&metrichttp.Handler{Registry: largeRegistry(100), Timeout: 200 * time.Millisecond, NoCompression: true})
	s := serveSlowly(t, h)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-done
}

// TestHandlerKeepsConnection checks that the deadline of a scrape does not affect the next one.
func TestHandlerKeepsConnection(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/metrics", &metrichttp.Handler{Registry: newRegistry(), Timeout: 2 * time.Second})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		<-slow
		_, _ = io.WriteString(w, "slow")
	})
	s, client := serve(t, mux)
	get(t, client, "GET", s.URL+"/metrics")
	time.AfterFunc(2700*time.Millisecond, func() { close(slow) })
	if _, body := get(t, client, "GET", s.URL+"/slow"); string(body) != "slow" {
		t.Errorf("the next response on the connection is %q", body)
	}
}

func TestHandlerCollectorHangs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		own    time.Duration
		header string
		least  time.Duration
		most   time.Duration
	}{
		{"the scraper's limit", 0, "2", time.Second, 2 * time.Second},
		{"its own limit", time.Second, "8", 500 * time.Millisecond, time.Second},
		{"no limit", 0, "", 5 * time.Second, 10 * time.Second},
		{"a malformed one", 0, "soon", 5 * time.Second, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRegistry()
				r.NewGauge("there", "A gauge.", nil).Set(1)
				release := make(chan struct{})
				defer close(release)
				r.Register(gotheus.CollectorFunc(func(context.Context, *gotheus.Sink) error {
					<-release
					return nil
				}))
				req := httptest.NewRequest("GET", "/", nil)
				if c.header != "" {
					req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", c.header)
				}
				rec := httptest.NewRecorder()
				start := time.Now()
				(&metrichttp.Handler{Registry: r, Timeout: c.own}).ServeHTTP(rec, req)
				if took := time.Since(start); took < c.least || took >= c.most {
					t.Errorf("took %v, want %v to %v", took, c.least, c.most)
				}
				if !strings.Contains(rec.Body.String(), "there 1\n") {
					t.Errorf("page %q", rec.Body)
				}
			})
		})
	}
}

// hanging is a backend that cannot be read in time.
type hanging struct{ *heap.Backend }

func (hanging) Sync(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// failing is a backend that cannot be read.
type failing struct{ *heap.Backend }

func (failing) Sync(context.Context) error { return errors.New("damaged") }

func TestHandlerBackendFails(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	r.NewGauge("there", "A gauge.", nil).Set(1)
	if err := r.BindBackend(t.Context(), failing{heap.New()}); err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	(&metrichttp.Handler{Registry: r}).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if rec.Code != 200 || !strings.Contains(rec.Body.String(), "there 1\n") {
		t.Errorf("%d, page %q", rec.Code, rec.Body)
	}
}

// TestHandlerOutOfTime has the time run out before the page begins.
func TestHandlerOutOfTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry()
		r.NewGauge("there", "A gauge.", nil).Set(1)
		if err := r.BindBackend(t.Context(), hanging{heap.New()}); err != nil {
			t.Fatal(err)
		}
		for _, coding := range []string{"identity", "gzip"} {
			rec := httptest.NewRecorder()
			req := httptest.NewRequest("GET", "/", nil)
			req.Header.Set("Accept-Encoding", coding)
			start := time.Now()
			(&metrichttp.Handler{Registry: r, Timeout: time.Second}).ServeHTTP(rec, req)
			if took := time.Since(start); took > time.Second {
				t.Errorf("%s: took %v", coding, took)
			}
			// A backend that gives up early leaves time for a page with the known
			// values.
			if rec.Code == 200 && (coding == "gzip" || strings.Contains(rec.Body.String(), "there 1\n")) {
				continue
			}
			if rec.Code != 503 || rec.Header().Get("Content-Encoding") != "" || !strings.Contains(rec.Body.String(), "in time") {
				t.Errorf("%s: %d %v %q", coding, rec.Code, rec.Header(), rec.Body)
			}
		}
	})
}

// TestHandlerGivenUp has the request cancelled before the page begins.
func TestHandlerGivenUp(t *testing.T) {
	t.Parallel()
	for _, coding := range []string{"identity", "gzip"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rec := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/", nil).WithContext(ctx)
		req.Header.Set("Accept-Encoding", coding)
		(&metrichttp.Handler{Registry: largeRegistry(1)}).ServeHTTP(rec, req)
		if rec.Code != 503 || rec.Header().Get("Content-Encoding") != "" || !strings.Contains(rec.Body.String(), "in time") {
			t.Errorf("%s: %d %v %q", coding, rec.Code, rec.Header(), rec.Body)
		}
	}
}
