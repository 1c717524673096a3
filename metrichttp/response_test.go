package metrichttp_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/metrichttp"
)

func TestResponseStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"nothing", func(http.ResponseWriter, *http.Request) {}, "200"},
		{"twice", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(500) }, "404"},
		{"after Write", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil); w.WriteHeader(500) }, "200"},
		{"after WriteString", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x"); w.WriteHeader(500) }, "200"},
		{"after ReadFrom", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("x"))
			w.WriteHeader(500)
		}, "200"},
		{"after ReadFrom of nothing", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader(""))
			w.WriteHeader(500)
		}, "500"},
		{"after Flush", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); w.WriteHeader(500) }, "200"},
		{"informational", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(201) }, "201"},
		{"informational only", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(102) }, "200"},
		{"switching", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(101) }, "101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry()
			s, client := serve(t, (&metrichttp.Middleware{Registry: r}).Wrap(c.handler))
			resp, err := client.Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			s.Close() // the client may be done before the handler
			if m := measured(t, r); m["GET 404 "+c.want].requests != 1 {
				t.Errorf("measured %v, want status %s", m, c.want)
			}
			if resp.Status[:3] != c.want {
				t.Errorf("the client got %s, which is not %s", resp.Status, c.want)
			}
		})
	}
}

func TestResponseEarlyHints(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	s, client := serve(t, (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
	})))
	hints := 0
	trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if hints != 1 {
		t.Errorf("the client got %d early hints", hints)
	}
	want(t, r, map[string]sums{"GET 404 200": {requests: 1}})
}

func TestResponseFlush(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	arrived := make(chan struct{})
	s, client := serve(t, (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, flush := range []func(){
			w.(http.Flusher).Flush,
			func() {
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
			},
		} {
			_, _ = io.WriteString(w, "part")
			flush()
			<-arrived
		}
	})))
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		part := make([]byte, 4)
		if _, err := io.ReadFull(resp.Body, part); err != nil || string(part) != "part" {
			t.Fatalf("got %q, %v", part, err)
		}
		arrived <- struct{}{} // the handler waits for this
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	_ = resp.Body.Close()
	want(t, r, map[string]sums{"GET 404 200": {requests: 1, sent: 8}})
}

func TestResponseFile(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	content := bytes.Repeat([]byte("content "), 50_000)
	s, client := serve(t, (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.bin", time.Time{}, bytes.NewReader(content))
	})))
	req, err := http.NewRequest("GET", s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=0-299999")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Equal(got, content[:300_000]) {
		t.Errorf("%d bytes of the file arrived, %v", len(got), err)
	}
	s.Close() // the client may be done before the handler
	want(t, r, map[string]sums{"GET 404 206": {requests: 1, sent: 300_000}})
}

// readerFrom counts what goes through ReadFrom.
type readerFrom struct {
	*httptest.ResponseRecorder
	n int64
}

func (w *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseRecorder, src)
	w.n += n
	return n, err
}

func TestResponseReadFrom(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	h := (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// Neither end may have another way to do it.
		if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("a file")}); n != 6 || err != nil {
			t.Errorf("copied %d, %v", n, err)
		}
	}))
	able := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	h.ServeHTTP(able, httptest.NewRequest("GET", "/", nil))
	if able.n != 6 || able.Body.String() != "a file" {
		t.Errorf("%d bytes went through ReadFrom, body %q", able.n, able.Body)
	}
	plain := httptest.NewRecorder()
	h.ServeHTTP(plain, httptest.NewRequest("GET", "/", nil))
	if plain.Body.String() != "a file" {
		t.Errorf("body %q", plain.Body)
	}
	want(t, r, map[string]sums{"GET 404 200": {requests: 2, sent: 12}})
}

func TestResponseHijack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		hijack func(http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error)
		want   string
	}{
		{"Hijacker", func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) { return w.(http.Hijacker).Hijack() }, "101"},
		{"ResponseController", func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			return http.NewResponseController(w).Hijack()
		}, "101"},
		{"with status", func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
			w.WriteHeader(http.StatusOK)
			return w.(http.Hijacker).Hijack()
		}, "200"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry()
			done := make(chan struct{})
			inner := (&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := c.hijack(w)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				w.WriteHeader(http.StatusTeapot) // is ignored
				if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
					t.Errorf("Write: %v", err)
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\nmore")
			}))
			s, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(done)
				inner.ServeHTTP(w, r)
			}))
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if got, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), "more") {
				t.Errorf("the client got %q, %v", got, err)
			}
			<-done
			want(t, r, map[string]sums{"GET 404 " + c.want: {requests: 1}})
		})
	}
}

// minimal is a ResponseWriter that can do nothing else.
type minimal struct{ http.ResponseWriter }

// wrapper is a ResponseWriter that http.ResponseController sees through.
type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type pusher struct {
	*httptest.ResponseRecorder
	pushed string
}

func (p *pusher) Push(target string, _ *http.PushOptions) error { p.pushed = target; return nil }

type hijacker struct{ *httptest.ResponseRecorder }

func (hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// TestResponseAbilities checks that a handler sees what the server can do, no more and no less.
func TestResponseAbilities(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder
	push := &pusher{ResponseRecorder: rec()}
	for _, c := range []struct {
		name                string
		w                   http.ResponseWriter
		flush, hijack, push bool
	}{
		{"recorder", rec(), true, false, false},
		{"minimal", minimal{rec()}, false, false, false},
		{"wrapped", wrapper{wrapper{rec()}}, true, false, false},
		{"hijacker", hijacker{rec()}, true, true, false},
		{"wrapped hijacker", wrapper{hijacker{rec()}}, true, true, false},
		{"pusher", push, true, false, true},
		{"wrapped pusher", wrapper{push}, true, false, true},
	} {
		r := newRegistry()
		(&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, flush := w.(http.Flusher)
			h, hijack := w.(http.Hijacker)
			p, push := w.(http.Pusher)
			if flush != c.flush || hijack != c.hijack || push != c.push {
				t.Errorf("%s: flush %v, hijack %v, push %v", c.name, flush, hijack, push)
			}
			if err := http.NewResponseController(w).Flush(); (err == nil) != c.flush {
				t.Errorf("%s: Flush: %v", c.name, err)
			}
			if hijack {
				if _, _, err := h.Hijack(); err == nil {
					t.Errorf("%s: Hijack did not pass on the error", c.name)
				}
			}
			if push {
				if err := p.Push("/"+c.name, nil); err != nil {
					t.Errorf("%s: Push: %v", c.name, err)
				}
			}
		})).ServeHTTP(c.w, httptest.NewRequest("GET", "/", nil))
		want(t, r, map[string]sums{"GET 404 200": {requests: 1}})
	}
	if push.pushed != "/wrapped pusher" {
		t.Errorf("pushed %q last", push.pushed)
	}
}

func TestResponseHTTP2(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	s := httptest.NewUnstartedServer((&metrichttp.Middleware{Registry: r}).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(http.Hijacker); ok {
			t.Error("HTTP/2 cannot be hijacked")
		}
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(w, r.Body)
	})))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	resp, err := s.Client().Post(s.URL, "text/plain", io.MultiReader(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 || string(got) != "body" || err != nil {
		t.Errorf("%s: %q, %v", resp.Proto, got, err)
	}
	want(t, r, map[string]sums{"POST 404 200": {1, 4, 4}})
}
