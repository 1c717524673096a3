// Package metrichttp serves pages over HTTP and measures net/http servers. Zero values of its types
// work, on the default registry.
package metrichttp

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Handler serves the page of a registry. Any process of those that share a backend may be asked: the page
// is the total of all. The zero value is ready. Fields must not be changed after the first request.
//
// GET and HEAD are answered, others get 405. The format is negotiated by Accept, which so far always
// yields the text format 0.0.4; compression by Accept-Encoding (gzip). The page is streamed. A scrape
// takes no longer than Timeout and than the scraper says in X-Prometheus-Scrape-Timeout-Seconds. One that
// is out of time before the page begins gets 503; after that, the connection is cut, so that a part of a
// page is never taken for all of it.
type Handler struct {
	Registry *gotheus.Registry // nil: gotheus.Default()
	Timeout  time.Duration     // at most; 0: 10 s
	// NoCompression sends pages as they are, for scrapers on the same host.
	NoCompression bool
}

// writeGrace is how much longer than the scrape the answer may take to be written to a client that does
// not read. Without a limit, it would hold up the registry.
const writeGrace = 500 * time.Millisecond

// timeoutHeader is what Prometheus sends with its scrapes.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
		return
	}
	timeout := h.timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	header := w.Header()
	header.Add("Vary", "Accept")
	header.Add("Vary", "Accept-Encoding")
	header.Set("Cache-Control", "no-store")
	format, ok := negotiateFormat(r.Header.Values("Accept"))
	if !ok {
		format = expo.Text // a scraper that asks for what nobody has still gets a page
	}
	coding := "identity"
	if !h.NoCompression {
		coding = negotiateCoding(r.Header.Values("Accept-Encoding"))
	}
	header.Set("Content-Type", format.ContentType())
	if coding != "identity" {
		header.Set("Content-Encoding", coding)
	}
	if r.Method == http.MethodHead {
		return
	}
	limitWriting(w, r, timeout+writeGrace)
	out := &clientWriter{w: w}
	defer func() { out.w = nil }() // a pooled gzip.Writer keeps out
	err := h.write(ctx, out, format, coding)
	if err == nil || out.err == nil && ctx.Err() == nil {
		return // what is known has been shown; the registry has logged the backend's error
	}
	if out.began {
		// An end in good order would say that the page is whole.
		panic(http.ErrAbortHandler)
	}
	header.Del("Content-Encoding")
	http.Error(w, "the page was not ready in time", http.StatusServiceUnavailable)
}

func (h *Handler) write(ctx context.Context, w io.Writer, format expo.Format, coding string) error {
	registry := h.Registry
	if registry == nil {
		registry = gotheus.Default()
	}
	if coding == "identity" {
		return registry.Write(ctx, w, format)
	}
	z := gzips.Get().(*gzip.Writer)
	defer gzips.Put(z)
	z.Reset(w)
	err := registry.Write(ctx, z, format)
	if err != nil && ctx.Err() != nil {
		return err // without an end
	}
	if e := z.Close(); e != nil {
		return e
	}
	return err
}

// gzips holds writers of the fastest level: compressing costs far more than encoding, and the better
// levels gain little on pages.
var gzips = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return z
}}

// timeout is what the scraper allows less a twentieth, so that the answer arrives before it gives up.
func (h *Handler) timeout(r *http.Request) time.Duration {
	limit := h.Timeout
	if limit <= 0 {
		limit = 10 * time.Second
	}
	s, err := strconv.ParseFloat(r.Header.Get(timeoutHeader), 64)
	// Compared before the conversion, which is not defined for NaN and what is out of range.
	if asked := s * 0.95 * float64(time.Second); err == nil && asked >= 1 && asked < float64(limit) {
		return time.Duration(asked)
	}
	return limit
}

// limitWriting makes writes fail after d, unless the server does so earlier. net/http lifts the limit
// after the response.
func limitWriting(w http.ResponseWriter, r *http.Request, d time.Duration) {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if ok && server.WriteTimeout > 0 && server.WriteTimeout < d {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d)) // not all writers can
}

// clientWriter remembers whether anything was written to the client, and whether that failed.
type clientWriter struct {
	w     io.Writer
	began bool
	err   error
}

func (c *clientWriter) Write(p []byte) (int, error) {
	c.began = true
	n, err := c.w.Write(p)
	if err != nil {
		c.err = err
	}
	return n, err
}
