package metrichttp

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
)

// Middleware measures the requests of a net/http server in three histograms:
//
//	http_request_duration_seconds  from the call of the handler to its return
//	http_request_size_bytes        the body received: its Content-Length, or else what was read of it
//	http_response_size_bytes       the body sent, as the handler wrote it
//
// Each has the labels method, route and status_code. All values of method and status_code come from
// fixed sets: GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS and TRACE; 100 to 599; anything else
// is "other". Values of route come from the program, not from clients.
//
// A request is counted when its handler has returned, before the rest of the response is sent. Whoever
// has all of a response can rely on that, unless the handler has sent all of it by flushing or by
// filling the server's buffer. The status is the one sent: 200 if the handler has chosen none.
// Informational ones do not count, except 101, which is also the status of a connection that is hijacked
// before any; what is sent past the ResponseWriter then is not part of the size. The answer to HEAD has
// size 0. A handler that panics is counted with status 500, whatever it had sent before, and the panic
// goes on as if nobody had seen it.
//
// The route is the pattern of the [http.ServeMux] that matched, which the mux notes in the request it is
// given. Pass the wrapped handler to the server and the mux, or any mux within it, to Wrap. A handler
// between the two that passes on a copy of the request hides the pattern: [http.TimeoutHandler],
// [http.StripPrefix] and all that use [http.Request.WithContext]. The route is then the pattern of a mux
// before it, or "404". Put such handlers outside of the middleware, or give a Route, which can ask a mux
// with [http.ServeMux.Handler]. It is also possible to wrap each handler that is registered with a mux;
// requests that match none are then not measured.
//
// The zero value is ready. Wrapped handlers may be called concurrently; a Middleware may be used for
// several handlers, which then share the histograms.
type Middleware struct {
	Registry *gotheus.Registry         // nil: gotheus.Default()
	Prefix   string                    // put before http_request_… and http_response_…
	Duration *gotheus.HistogramOptions // of durations in seconds; without Buckets: gotheus.DefaultBuckets()
	Size     *gotheus.HistogramOptions // of both sizes in bytes; without Buckets: 10, 100, … 1e8

	// Route returns the route of a request. It is called when the handler has returned, or panicked,
	// with the request that the handler was given. It must return few different values: each of them is
	// kept, with three histograms for every method and status code. Nil means the pattern that matched,
	// with its host and without its method ("GET example.com/items/{id}" is "example.com/items/{id}"),
	// and "404" if none did, which includes 405 answers of a mux.
	Route func(*http.Request) string

	// Skip says which requests are not to be measured; they are passed on as they are. Nil: none.
	Skip func(*http.Request) bool
}

// Wrap returns a handler that passes requests on to next and measures them. It makes the histograms,
// so they exist before the first request, and panics with the error of [gotheus.TryNewVec] if one cannot
// be made: it clashes with another family, or Prefix or buckets are invalid; also if next is nil. Changes made to the
// Middleware later have no effect.
//
// The ResponseWriter that next gets can be flushed, hijacked and used to push if the server's can, and
// unwrapped by [http.ResponseController]. It may replace the Body of the request it is given.
func (m *Middleware) Wrap(next http.Handler) http.Handler {
	if next == nil {
		panic(fmt.Errorf("%w: Middleware.Wrap: the handler is nil", gotheus.ErrInvalid))
	}
	labels := []string{"method", "route", "status_code"}
	histogram := func(name, help string, o *gotheus.HistogramOptions, unit string, buckets []float64) *gotheus.Vec[gotheus.Histogram] {
		full := gotheus.HistogramOptions{}
		if o != nil {
			full = *o
		}
		if full.Unit == "" {
			full.Unit = unit
		}
		if full.Buckets == nil {
			full.Buckets = buckets
		}
		return gotheus.Must(gotheus.TryNewVec[gotheus.Histogram](m.Registry, m.Prefix+name, help, &full, labels...))
	}
	sizes := []float64{10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}
	return &measured{
		next:     next,
		route:    m.Route,
		skip:     m.Skip,
		duration: histogram("http_request_duration_seconds", "How long handlers of HTTP requests took.", m.Duration, "seconds", nil),
		received: histogram("http_request_size_bytes", "Sizes of HTTP request bodies.", m.Size, "bytes", sizes),
		sent:     histogram("http_response_size_bytes", "Sizes of HTTP response bodies.", m.Size, "bytes", sizes),
	}
}

// measured is a wrapped handler.
type measured struct {
	next                     http.Handler
	route                    func(*http.Request) string
	skip                     func(*http.Request) bool
	duration, received, sent *gotheus.Vec[gotheus.Histogram]
}

func (h *measured) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.skip != nil && h.skip(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	// Not pooled: what a handler leaves running may still hold it.
	e := &exchange{method: r.Method, length: r.ContentLength}
	e.response.ResponseWriter = w
	if r.ContentLength < 0 && r.Body != nil {
		e.body.ReadCloser = r.Body
		r.Body = &e.body
	}
	start := time.Now()
	// A panic is not recovered, so that it keeps its stack.
	returned := false
	defer func() { h.observe(e, r, time.Since(start), returned) }()
	// The request is not copied: this is the one in which a mux notes its pattern.
	h.next.ServeHTTP(e.response.like(w), r)
	returned = true
}

// exchange is a request and its response: all that a measurement allocates.
type exchange struct {
	method   string
	length   int64 // of the request's body, negative: unknown
	body     countedBody
	response response
}

func (h *measured) observe(e *exchange, r *http.Request, took time.Duration, returned bool) {
	status := e.response.status
	switch {
	case !returned:
		status = http.StatusInternalServerError
	case status == 0:
		status = http.StatusOK
	}
	var route string
	if h.route != nil {
		route = h.route(r)
	} else {
		route = patternRoute(r, e.method)
	}
	received, sent := e.length, e.response.size
	if received < 0 {
		received = e.body.n.Load()
	}
	if e.method == http.MethodHead {
		sent = 0 // the server drops what is written
	}
	method, code := methodLabel(e.method), statusLabel(status)
	route = strings.ToValidUTF8(route, "\uFFFD") // a request must not fail for a label
	h.duration.With(method, route, code).Observe(took.Seconds())
	h.received.With(method, route, code).Observe(float64(received))
	h.sent.With(method, route, code).Observe(float64(sent))
}

// noRoute is the route of requests that match no pattern.
const noRoute = "404"

// patternRoute returns the path, with the host if there is one, of the pattern that a mux has noted in r.
func patternRoute(r *http.Request, method string) string {
	pattern := r.Pattern
	if pattern == "" || method == http.MethodConnect && redirectedConnect(r) {
		return noRoute
	}
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		pattern = strings.TrimLeft(pattern[i+1:], " \t")
	}
	return pattern
}

// redirectedConnect reports whether a mux has redirected a CONNECT request for /tree to /tree/. Unlike
// elsewhere, it then notes the path it redirects to in place of a pattern: clients could make up as
// many routes as they like.
func redirectedConnect(r *http.Request) bool {
	if r.URL == nil {
		return false
	}
	to := path.Clean("/" + r.URL.Path)
	if to != "/" && strings.HasSuffix(r.URL.Path, "/") {
		to += "/"
	}
	return r.Pattern == to+"/"
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return "other"
}

const minStatus, maxStatus = 100, 599

// statuses has the digits of all from minStatus to maxStatus, one after the other.
var statuses = func() string {
	var b strings.Builder
	for s := minStatus; s <= maxStatus; s++ {
		b.WriteString(strconv.Itoa(s))
	}
	return b.String()
}()

func statusLabel(status int) string {
	if status < minStatus || status > maxStatus {
		return "other"
	}
	return statuses[(status-minStatus)*3:][:3]
}
