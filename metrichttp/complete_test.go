package metrichttp_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/metrichttp"
)

// holding is a coding that changes nothing, takes its time, and may fail.
type holding struct {
	w          io.Writer
	takes      time.Duration // before the end of a page
	writing    error         // of each Write
	closing    error
	wroteBytes int
}

func (h *holding) Reset(w io.Writer) { h.w, h.wroteBytes = w, 0 }

func (h *holding) Write(p []byte) (int, error) {
	if h.writing != nil && h.wroteBytes > 0 {
		return 0, h.writing
	}
	h.wroteBytes += len(p)
	return h.w.Write(p)
}

func (h *holding) Close() error {
	time.Sleep(h.takes)
	return h.closing
}

// A page that was not sent as a whole is never ended as if it were complete, wherever its time
// ends, and whoever fails.
func TestIncompletePagesAreCut(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]*holding{
		"slow":    {takes: time.Hour},
		"writing": {writing: broken},
		"closing": {closing: broken},
	} {
		metrichttp.RegisterCoding("holding-"+name, func() metrichttp.Compressor { return c })
		// Less than is made before anything is sent, and more.
		for _, n := range []int{2, 20} {
			synctest.Test(t, func(t *testing.T) {
				h := &metrichttp.Handler{Registry: largeRegistry(n), Timeout: time.Minute}
				client := newReader(0)
				req := httptest.NewRequest("GET", "/", nil)
				req.Header.Set("Accept-Encoding", "holding-"+name)
				if !aborts(func() { h.ServeHTTP(client, req) }) && client.status == http.StatusOK {
					t.Errorf("%s, %d series: a page of %d bytes looks complete", name, n, client.got)
				}
			})
		}
	}
}

// What is on its way when the time ends may arrive shortly after.
func TestLastPieceHasMoreTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := largeRegistry(4)
		whole := pageOf(t, r)
		pieces := (len(whole) + 32<<10 - 1) / (32 << 10)
		h := &metrichttp.Handler{Registry: r, Timeout: time.Duration(pieces)*time.Second - 100*time.Millisecond}
		if client := newReader(time.Second); !client.scrape(h) || client.got != len(whole) {
			t.Errorf("the client got %d of %d bytes, and the page was cut", client.got, len(whole))
		}
	})
}

// Any number is a limit.
func TestLargeMaxInFlight(t *testing.T) {
	t.Parallel()
	for _, n := range []int{math.MaxInt, math.MaxInt / 2, math.MaxInt/4 + 1, math.MinInt} {
		if rec := ask(&metrichttp.Handler{Registry: newRegistry(), MaxInFlight: n}, "/"); rec.Code != 200 {
			t.Errorf("MaxInFlight %d: %d %s", n, rec.Code, rec.Body)
		}
	}
}

// Clients that cannot be cut off do not keep those who can.
func TestClientsThatCannotBeCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &metrichttp.Handler{Registry: largeRegistry(4), MaxInFlight: 2, Timeout: time.Hour}
		bare, release := make(chan bool), make(chan struct{})
		go func() {
			w := &blocked{header: make(http.Header), until: release}
			h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			bare <- true
		}()
		time.Sleep(time.Second)
		go newReader(never).scrape(h)
		time.Sleep(time.Millisecond)
		start := time.Now()
		if honest := newReader(0); !honest.scrape(h) || time.Since(start) > time.Second {
			t.Errorf("an honest client: status %d after %v", honest.status, time.Since(start))
		}
		close(release)
		<-bare
	})
}

// blocked is a writer without deadlines, as behind middleware that hides them.
type blocked struct {
	header http.Header
	until  chan struct{}
	bytes.Buffer
}

func (b *blocked) Header() http.Header { return b.header }
func (b *blocked) WriteHeader(int)     {}
func (b *blocked) Write(p []byte) (int, error) {
	<-b.until
	return b.Buffer.Write(p)
}
