// Package metrichttp serves pages over HTTP, pushes them, and instruments net/http servers. The
// zero values of its types use the default registry.
package metrichttp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Handler serves the page of a registry. If processes share a backend, any of them can be scraped:
// the page is the total of all, unless Scope says otherwise. The zero value is ready to use. A
// Handler is safe for concurrent use; its fields must not be changed after the first request. It
// answers GET and HEAD, and other methods with 405. The Accept header selects the format: text
// 0.0.4 (also for browsers and if no requested format is supported), text 1.0.0, OpenMetrics 0.0.1
// and 1.0.0, and protobuf, each with the requested escaping of names. Accept-Encoding selects the
// compression: gzip, and what RegisterCoding adds. The URL's parameters name[] select families by
// the names of families or samples; a query of more than 32 KiB is answered with 414. Of the two
// headers, at most 64 elements in 4 KiB are read. Large pages are streamed. A scrape takes no
// longer than Timeout, and no longer than 95 % of the scraper's
// X-Prometheus-Scrape-Timeout-Seconds. If time runs out before the page begins, the answer is 503;
// after that, the connection is cut, so that an incomplete page is never taken for a complete one.
// A client that reads nothing for a third of the time, and for at least three seconds, is cut off,
// too. If the registry is closed, the answer is 503, see [gotheus.Registry.Close].
//
// HTTP/2 servers should set [http.HTTP2Config.WriteByteTimeout]: without it, nothing but the end of
// the connection stops a write to a client that does not read from it.
type Handler struct {
	Registry *gotheus.Registry // nil: gotheus.Default()
	Timeout  time.Duration     // maximum duration of a scrape; 0 means 10 s
	// MaxInFlight limits the number of concurrent scrapes. Up to four times as many wait for
	// their turn, for half of their time; others get 503. While any wait, a client that has not
	// read for half a second is cut off. 0 means 64, negative no limit.
	MaxInFlight int
	// Scope selects whose counts the page shows if processes share a backend. The default
	// ScopeAll shows those of all processes. If several processes are scraped as separate
	// targets, choose another one, see gotheus.Scope. A scope that the backend does not support
	// is answered with 500.
	Scope gotheus.Scope
	// Strict answers 500 if part of the page would be missing: because the backend cannot read
	// the other processes' counts, or because a collector or family would be left out. The log
	// says why. Otherwise the rest is shown.
	Strict bool
	// Created adds _created lines to OpenMetrics 1.0, which doubles the number of counters'
	// lines.
	Created bool
	// OpenMetrics2 offers OpenMetrics 2.0.0, whose specification is an experimental draft.
	OpenMetrics2 bool
	// NoCompression disables compression, for scrapers on the same host.
	NoCompression bool

	slots slots
}

// maxQuery limits the length of the query, which is room for more than a thousand names.
const maxQuery = 32 << 10

// timeoutHeader is sent by Prometheus with each scrape.
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
	// The time begins here: it holds for everything that follows.
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout(r))
	defer cancel()
	if len(r.URL.RawQuery) > maxQuery {
		http.Error(w, "the query is longer than 32 KiB: ask for fewer names, or for the whole page", http.StatusRequestURITooLong)
		return
	}
	// If no requested format is supported, the page is in text 0.0.4.
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
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		// Otherwise the server waits for the request's body before it sends anything.
		header.Set("Connection", "close")
	}
	out := newSending(ctx, w, r)
	defer out.release()
	if h.MaxInFlight >= 0 {
		n := cmp.Or(h.MaxInFlight, 64)
		if !h.slots.take(ctx, n, out) {
			fail(w, "too many scrapes are in flight", http.StatusServiceUnavailable)
			return
		}
		defer h.slots.leave(n, out)
	}
	err := h.write(ctx, out, c, &gotheus.WriteOptions{Format: format, Names: names(r), Strict: h.Strict, Scope: h.Scope})
	if out.err == nil && !unwritten(err) {
		err = cmp.Or(out.flush(), err)
	}
	switch {
	case err == nil:
	case out.began && (out.err != nil || ctx.Err() != nil):
		// A regular end of the response would mark the page as complete.
		panic(http.ErrAbortHandler)
	case errors.Is(err, gotheus.ErrPartial):
		// Collectors' errors may have secrets, such as URLs.
		fail(w, "the page would not be complete; the program's log says what is missing", http.StatusInternalServerError)
	case errors.Is(err, gotheus.ErrScope):
		fail(w, err.Error(), http.StatusInternalServerError)
	case errors.Is(err, gotheus.ErrClosed):
		fail(w, "the registry is closed", http.StatusServiceUnavailable)
	case errors.Is(err, gotheus.ErrStale):
		fail(w, "the backend cannot be read: what is known may be out of date", http.StatusServiceUnavailable)
	case ctx.Err() != nil:
		fail(w, "the page was not ready in time", http.StatusServiceUnavailable)
	case out.err != nil:
		fail(w, "the page could not be compressed", http.StatusInternalServerError)
	}
	// Otherwise the known part was shown, and the registry has logged the backend's error.
}

// names returns the names that a request asks for.
func names(r *http.Request) []string {
	if r.URL.RawQuery == "" {
		return nil
	}
	return r.URL.Query()["name[]"]
}

// unwritten reports whether err says that there is no page.
func unwritten(err error) bool {
	return errors.Is(err, gotheus.ErrPartial) || errors.Is(err, gotheus.ErrStale) || errors.Is(err, gotheus.ErrScope)
}

// fail answers with an error in plain text.
func fail(w http.ResponseWriter, text string, status int) {
	w.Header().Del("Content-Encoding")
	http.Error(w, text, status)
}

func (h *Handler) write(ctx context.Context, out *sending, c *coding, o *gotheus.WriteOptions) error {
	registry := h.Registry
	if registry == nil {
		registry = gotheus.Default()
	}
	if c == nil {
		return registry.Write(ctx, out, o)
	}
	z := c.pool.Get().(Compressor)
	defer c.pool.Put(z)
	z.Reset(out)
	err := registry.Write(ctx, noting{z, &out.err}, o)
	if err != nil && (ctx.Err() != nil || unwritten(err)) {
		z.Reset(io.Discard)
		_ = z.Close() // ends its background work, if any
		return err
	}
	if e := z.Close(); e != nil {
		out.err = cmp.Or(out.err, e)
		return e
	}
	return err
}

// noting notes the first error of a writer, which tells it from those of a registry.
type noting struct {
	io.Writer
	err *error
}

func (n noting) Write(p []byte) (size int, err error) {
	size, err = n.Writer.Write(p)
	*n.err = cmp.Or(*n.err, err)
	return size, err
}

// timeout is 95 % of the scraper's timeout, so that the response arrives before it gives up.
func (h *Handler) timeout(r *http.Request) time.Duration {
	limit := h.Timeout
	if limit <= 0 {
		limit = 10 * time.Second
	}
	asked := r.Header.Get(timeoutHeader)
	s, err := strconv.ParseFloat(asked[:min(len(asked), 64)], 64)
	// Compare before converting, which is undefined for NaN and values out of range.
	if d := s * 0.95 * float64(time.Second); err == nil && d >= 1 && d < float64(limit) {
		return time.Duration(d)
	}
	return limit
}
