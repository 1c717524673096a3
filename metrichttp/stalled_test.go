package metrichttp_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrichttp"
)

// reader is a client on a connection with deadlines that takes its time for each write.
type reader struct {
	header   http.Header
	takes    time.Duration
	got      int
	status   int
	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed when there is another deadline
}

func newReader(takes time.Duration) *reader {
	return &reader{header: make(http.Header), takes: takes, status: 200, changed: make(chan struct{})}
}

func (r *reader) Header() http.Header    { return r.header }
func (r *reader) WriteHeader(status int) { r.status = status }

func (r *reader) SetWriteDeadline(d time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = d
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

func (r *reader) Write(p []byte) (int, error) {
	taken := time.After(r.takes)
	for {
		r.mu.Lock()
		deadline, changed := r.deadline, r.changed
		r.mu.Unlock()
		var late <-chan time.Time // nil: never
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-taken:
			r.got += len(p)
			return len(p), nil
		case <-late:
			return 0, os.ErrDeadlineExceeded
		case <-changed:
		}
	}
}

// scrape serves a page to a client, and reports whether that was complete.
func (r *reader) scrape(h http.Handler) bool {
	req := httptest.NewRequest("GET", "/", nil)
	return !aborts(func() { h.ServeHTTP(r, req) }) && r.status == 200
}

const never = 1000 * time.Hour

// Clients that do not read do not keep others from their pages, and are not what a slow client is
// taken for.
func TestStalledClientsGiveWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := largeRegistry(20)
		whole := len(pageOf(t, r))
		h := &metrichttp.Handler{Registry: r, MaxInFlight: 4, Timeout: time.Hour}
		slow, slowly := newReader(400*time.Millisecond), make(chan bool)
		go func() { slowly <- slow.scrape(h) }()
		stop := make(chan struct{})
		var hostile sync.WaitGroup
		for range 10 {
			hostile.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						if newReader(never).scrape(h) {
							t.Error("a client that does not read has got its page")
						}
					}
				}
			})
		}
		time.Sleep(time.Second)
		for range 10 {
			start := time.Now()
			if honest := newReader(0); !honest.scrape(h) || honest.got != whole || time.Since(start) > 3*time.Second {
				t.Errorf("an honest client: status %d, %d of %d bytes, after %v", honest.status, honest.got, whole, time.Since(start))
			}
		}
		if !<-slowly || slow.got != whole {
			t.Errorf("a slow client: status %d, %d of %d bytes", slow.status, slow.got, whole)
		}
		close(stop)
		hostile.Wait()
	})
}

// Without others that wait, a client that does not read is given a while, and more by a handler
// that allows more.
func TestStalledClientAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := largeRegistry(2)
		for _, c := range []struct{ timeout, stall, slow time.Duration }{
			{time.Second, 1500 * time.Millisecond, 200 * time.Millisecond},
			{6 * time.Second, 3 * time.Second, time.Second},
			{time.Hour, 20 * time.Minute, 10 * time.Minute},
		} {
			h := &metrichttp.Handler{Registry: r, Timeout: c.timeout}
			start := time.Now()
			if newReader(never).scrape(h) || time.Since(start) != c.stall {
				t.Errorf("with a timeout of %v, it was waited for: %v", c.timeout, time.Since(start))
			}
			if !newReader(c.slow).scrape(h) {
				t.Errorf("with a timeout of %v, a slow client has not got its page", c.timeout)
			}
		}
	})
}

// A server that allows less time to write than the handler is heeded.
func TestStalledClientOfStrictServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &metrichttp.Handler{Registry: largeRegistry(2), Timeout: time.Minute}
		server := context.WithValue(t.Context(), http.ServerContextKey, &http.Server{WriteTimeout: time.Second})
		req := httptest.NewRequest("GET", "/", nil).WithContext(server)
		start := time.Now()
		if !aborts(func() { h.ServeHTTP(newReader(never), req) }) || time.Since(start) != time.Second {
			t.Errorf("it was waited for: %v", time.Since(start))
		}
	})
}

// A page of usual size is finished before it is sent, so that a client that does not read keeps
// nothing of the registry.
func TestStalledClientHoldsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := largeRegistry(4)
		h := &metrichttp.Handler{Registry: r}
		done := make(chan struct{})
		go func() {
			defer close(done)
			newReader(never).scrape(h)
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.BindBackend(ctx, heap.New()); err != nil {
			t.Errorf("binding beside a client that does not read: %v", err)
		}
		<-done
	})
}

// The same with real connections, of HTTP/1 and HTTP/2.
func TestStalledConnections(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("http2=", http2), func(t *testing.T) {
			t.Parallel()
			r := largeRegistry(100)
			whole := len(pageOf(t, r))
			s := httptest.NewUnstartedServer(&metrichttp.Handler{Registry: r, MaxInFlight: 2, Timeout: time.Minute, NoCompression: true})
			s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				if c, ok := c.(*tls.Conn); ok {
					_ = c.NetConn().(*net.TCPConn).SetWriteBuffer(4 << 10)
				}
				return ctx
			}
			s.EnableHTTP2 = http2
			s.StartTLS()
			t.Cleanup(s.Close)
			for range 6 {
				resp, err := s.Client().Get(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close() // after reading nothing but the header
				if resp.StatusCode != 200 || (resp.ProtoMajor == 2) != http2 {
					t.Fatalf("%s %s", resp.Proto, resp.Status)
				}
			}
			for range 3 {
				if resp, body := get(t, s.Client(), "GET", s.URL); resp.StatusCode != 200 || len(body) != whole {
					t.Errorf("%s, %d of %d bytes", resp.Status, len(body), whole)
				}
			}
		})
	}
}

// A request whose body does not arrive keeps no slot.
func TestBodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		r := largeRegistry(20)
		h, done := observed(&metrichttp.Handler{Registry: r, MaxInFlight: 1, Timeout: time.Hour})
		s := serveSlowly(t, h)
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, conn)
		if <-done {
			t.Errorf("%s: the page was not sent", header)
		}
	}
}

// A query that is too long is refused, before anything is done for it.
func TestLongQuery(t *testing.T) {
	t.Parallel()
	r := newRegistry()
	r.NewGauge("there", "A gauge.", nil).Set(1)
	h := &metrichttp.Handler{Registry: r}
	many := strings.Repeat("name[]=x&", 1500)
	if rec := ask(h, "/?"+many+"name[]=there"); rec.Code != 200 || !strings.Contains(rec.Body.String(), "there 1\n") {
		t.Errorf("1,500 names: %d %s", rec.Code, rec.Body)
	}
	for _, query := range []string{strings.Repeat(many, 3), "name[]=" + strings.Repeat("x", 1<<20)} {
		if rec := ask(h, "/?"+query); rec.Code != 414 || !strings.Contains(rec.Body.String(), "32 KiB") {
			t.Errorf("%d bytes: %d %.50s", len(query), rec.Code, rec.Body)
		}
	}
}
