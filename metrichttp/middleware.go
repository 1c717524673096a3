package metrichttp

import (
	"cmp"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/internal/series"
)

// Middleware measures the requests of a net/http server in three histograms:
//
//	http_request_duration_seconds  from the call of the handler to its return
//	http_request_size_bytes        the request body: its Content-Length, or else the bytes read
//	http_response_size_bytes       the response body, as the handler wrote it
//
// Each has the labels method, route and status_code. All values of method and status_code come from
// fixed sets: GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS and TRACE; 100 to 599; anything
// else is "other". Values of route come from the program, not from clients. A request is counted
// when its handler has returned, before the rest of the response is sent. A client that has
// received a whole response can therefore rely on it being counted, unless the handler has sent all
// of it by flushing or by filling the server's buffer. The status is the one sent, or 200 if the
// handler sets none. Informational statuses are ignored, except 101, which is also the status of a
// connection that is hijacked before any was sent; data sent after hijacking is not part of the
// size. Responses to HEAD have size 0. A handler that panics is counted with status 500, whatever
// it has sent, and the panic is not recovered.
//
// The route is the pattern of the [http.ServeMux] that matched, which the mux sets in the request
// it receives. Pass the wrapped handler to the server and the mux, or any mux within it, to Wrap. A
// handler between the two that passes on a copy of the request hides the pattern:
// [http.TimeoutHandler], [http.StripPrefix] and all that use [http.Request.WithContext]. The route
// is then the pattern of a mux before it, or "404". Put such handlers outside of the middleware, or
// set Route, which can ask a mux with [http.ServeMux.Handler]. It is also possible to wrap each
// handler that is registered with a mux; requests that match none are then not measured. The zero
// value is ready to use. Wrapped handlers may be called concurrently. A Middleware may wrap several
// handlers, which then share the histograms.
type Middleware struct {
	Registry *gotheus.Registry // nil: gotheus.Default()
	Prefix   string            // prepended to http_request_… and http_response_…
	// Duration has the options of the histogram of durations, in seconds. Without Buckets, they
	// are gotheus.DefaultBuckets().
	Duration *gotheus.HistogramOptions
	// Size has the options of the histograms of both sizes, in bytes. Without Buckets, they are
	// 10, 100, … 1e8.
	Size *gotheus.HistogramOptions

	// Route returns the route of a request. It is called when the handler has returned, or
	// panicked, with the request that the handler received. It must return a small set of
	// values: for each of them there are three histograms per method and status code, which are
	// kept. Nil means the pattern that matched, with its host and without its method ("GET
	// example.com/items/{id}" is "example.com/items/{id}"), and "404" if none did, which
	// includes 405 answers of a mux. If it panics, the request is not affected, and its route
	// is "other".
	Route func(*http.Request) string

	// Skip selects requests that are passed on without being measured. Nil means none. A
	// request for which it panics is measured.
	Skip func(*http.Request) bool
}

// Wrap returns a handler that passes requests on to next and measures them. It creates the
// histograms, so they exist before the first request. It panics with the error of
// [gotheus.TryNewVec] if one cannot be created, because it clashes with another family or because
// Prefix or the buckets are invalid, and if next is nil. Later changes to the Middleware have no
// effect.
//
// The ResponseWriter that next gets can be flushed, hijacked and used to push if the server's can,
// and unwrapped by [http.ResponseController]. The returned handler may replace the Body of a
// request.
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
		home:     inside.Home(cmp.Or(m.Registry, gotheus.Default())),
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
	home                     *series.Home // has the log
	route                    func(*http.Request) string
	skip                     func(*http.Request) bool
	duration, received, sent *gotheus.Vec[gotheus.Histogram]
}

func (h *measured) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.skip != nil && h.skips(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	// Not pooled: a goroutine that the handler has started may still use it.
	e := &exchange{method: r.Method, length: r.ContentLength}
	e.response.ResponseWriter = w
	if r.ContentLength < 0 && r.Body != nil {
		e.body.ReadCloser = r.Body
		r.Body = &e.body
	}
	start := time.Now()
	// Do not recover a panic, so that it keeps its stack.
	returned := false
	defer func() { h.observe(e, r, time.Since(start), returned) }()
	// Do not copy the request: a mux sets its pattern in this one.
	h.next.ServeHTTP(e.response.like(w), r)
	returned = true
}

// exchange is a request and its response, the only allocation of a measurement.
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
		route = h.routeOf(r)
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
	h.duration.With(method, route, code).Observe(took.Seconds())
	h.received.With(method, route, code).Observe(float64(received))
	h.sent.With(method, route, code).Observe(float64(sent))
}

// skips returns false if Skip panics.
func (h *measured) skips(r *http.Request) bool {
	defer h.home.Contain("Middleware.Skip")
	return h.skip(r)
}

// routeOf returns otherRoute if Route panics.
func (h *measured) routeOf(r *http.Request) (route string) {
	route = otherRoute
	defer h.home.Contain("Middleware.Route")
	return h.route(r)
}

// otherRoute is the route of requests whose route is not known.
const otherRoute = "other"

// noRoute is the route of requests that match no pattern.
const noRoute = "404"

// patternRoute returns the path, with the host if there is one, of the pattern that a mux has set
// in r.
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

// redirectedConnect reports whether a mux has redirected a CONNECT request for /tree to /tree/. In
// this case it sets the path it redirects to in place of a pattern, so clients could create any
// number of routes.
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

// statuses holds the digits of all codes from minStatus to maxStatus, one after another.
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
