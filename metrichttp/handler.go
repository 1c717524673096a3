// Package metrichttp serves pages over HTTP, pushes them, and measures net/http servers. Zero values of its
// types work, on the default registry.
package metrichttp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Handler serves the page of a registry. Any process of those that share a backend may be asked: the page
// is the total of all, unless Scope says otherwise. The zero value is ready. Fields must not be changed after the first request.
//
// GET and HEAD are answered, others get 405. The format is negotiated by Accept: text 0.0.4, which is
// also the answer to browsers and to whoever asks for what nobody has, text 1.0.0, OpenMetrics 0.0.1 and
// 1.0.0, and protobuf, each with the escaping of names that was asked for; compression by Accept-Encoding
// (gzip, and what RegisterCoding adds). Parameters name[] in the URL select families by the names of families
// or samples.
//
// The page is streamed. A scrape takes no longer than Timeout and than the scraper says in
// X-Prometheus-Scrape-Timeout-Seconds, less a twentieth. One that is out of time before the page begins gets
// 503; after that, the connection is cut, so that a part of a page is never taken for all of it.
type Handler struct {
	Registry *gotheus.Registry // nil: gotheus.Default()
	Timeout  time.Duration     // at most; 0: 10 s
	// MaxInFlight limits how many scrapes are answered at once; others get 503. 0: 64; negative: no limit.
	MaxInFlight int
	// Scope says whose counts the page shows, where processes share a backend; ScopeAll: those of all. Where several
	// processes are scraped as targets of their own, it must be another one: see gotheus.Scope. A scope that
	// the backend does not know is answered by 500.
	Scope gotheus.Scope
	// Strict answers 500 where a part of the page would be missing: the backend cannot say what other
	// processes did, or a collector or family would be left out. Otherwise the rest is shown.
	Strict bool
	// Created adds _created lines to OpenMetrics 1.0, which double the series of counters.
	Created bool
	// OpenMetrics2 offers OpenMetrics 2.0.0, whose specification is an experimental draft.
	OpenMetrics2 bool
	// NoCompression sends pages as they are, for scrapers on the same host.
	NoCompression bool

	inFlight atomic.Int64
}

// writeGrace is how much longer than the scrape the answer may take to be written to a client that does
// not read. Without a limit, it would hold up the registry.
const writeGrace = 500 * time.Millisecond

// timeoutHeader is what Prometheus sends with its scrapes.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are allowed", http.StatusMethodNotAllowed)
		return
	}
	header.Add("Vary", "Accept")
	header.Add("Vary", "Accept-Encoding")
	header.Set("Cache-Control", "no-store")
	defer h.inFlight.Add(-1)
	if n := h.inFlight.Add(1); h.MaxInFlight >= 0 && n > int64(cmp.Or(h.MaxInFlight, 64)) {
		http.Error(w, "too many scrapes are in flight", http.StatusServiceUnavailable)
		return
	}
	timeout := h.timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	// A scraper that asks for what nobody has still gets a page in text 0.0.4.
	format, _ := negotiateFormat(r.Header.Values("Accept"), h.OpenMetrics2)
	format.Created = h.Created && (format.Syntax == expo.OpenMetrics0 || format.Syntax == expo.OpenMetrics1)
	var c *coding
	if !h.NoCompression {
		c = negotiateCoding(r.Header.Values("Accept-Encoding"), *codings.Load())
	}
	header.Set("Content-Type", format.ContentType())
	if c != nil {
		header.Set("Content-Encoding", c.name)
	}
	if r.Method == http.MethodHead {
		return
	}
	limitWriting(w, r, timeout+writeGrace)
	out := &clientWriter{w: w}
	defer func() { out.w = nil }() // a pooled compressor keeps out
	err := h.write(ctx, out, c, &gotheus.WriteOptions{Format: format, Names: r.URL.Query()["name[]"], Strict: h.Strict, Scope: h.Scope})
	switch {
	case err == nil:
	case out.began && (out.err != nil || ctx.Err() != nil):
		// An end in good order would say that the page is whole.
		panic(http.ErrAbortHandler)
	case errors.Is(err, gotheus.ErrPartial), errors.Is(err, gotheus.ErrScope):
		fail(w, err.Error(), http.StatusInternalServerError)
	case errors.Is(err, gotheus.ErrStale):
		fail(w, "the backend cannot be read: what is known may be out of date", http.StatusServiceUnavailable)
	case out.err != nil || ctx.Err() != nil:
		fail(w, "the page was not ready in time", http.StatusServiceUnavailable)
	}
	// Otherwise what is known has been shown; the registry has logged the backend's error.
}

// fail answers in plain text.
func fail(w http.ResponseWriter, text string, status int) {
	w.Header().Del("Content-Encoding")
	http.Error(w, text, status)
}

func (h *Handler) write(ctx context.Context, w io.Writer, c *coding, o *gotheus.WriteOptions) error {
	registry := h.Registry
	if registry == nil {
		registry = gotheus.Default()
	}
	if c == nil {
		return registry.Write(ctx, w, o)
	}
	z := c.pool.Get().(Compressor)
	defer c.pool.Put(z)
	z.Reset(w)
	err := registry.Write(ctx, z, o)
	if err != nil && (ctx.Err() != nil || errors.Is(err, gotheus.ErrPartial) || errors.Is(err, gotheus.ErrStale) || errors.Is(err, gotheus.ErrScope)) {
		z.Reset(io.Discard)
		_ = z.Close() // whatever it does in the background ends
		return err
	}
	if e := z.Close(); e != nil {
		return e
	}
	return err
}

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
