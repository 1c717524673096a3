package metrichttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// countedBody counts the bytes read of a request's body. A handler may have left a goroutine behind
// that still reads, so it is atomic.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// response records the status and counts the bytes of the body that are written to a
// ResponseWriter.
type response struct {
	http.ResponseWriter
	status int   // 0 if none was sent yet
	size   int64 // of the body, as accepted by the ResponseWriter
}

// The types below are pointers to a response for the server, so that converting one to an interface
// allocates nothing. Handlers use type assertions to find out what the server can do, so a response
// must not implement more than the ResponseWriter it wraps.
type (
	flushing struct{ *response }
	hijacked struct{ flushing } // HTTP/1
	pushing  struct{ flushing } // HTTP/2
)

// like returns w in the type for what the ResponseWriter can do.
func (w *response) like(inner http.ResponseWriter) http.ResponseWriter {
	switch {
	case !has[http.Flusher](inner) && !has[interface{ FlushError() error }](inner):
		return w
	case has[http.Hijacker](inner):
		return hijacked{flushing{w}}
	case has[http.Pusher](inner):
		return pushing{flushing{w}}
	}
	return flushing{w}
}

// has reports whether w, or a writer that it wraps, is a T. It looks where http.ResponseController
// does.
func has[T any](w http.ResponseWriter) bool {
	_, ok := find[T](w)
	return ok
}

func find[T any](w http.ResponseWriter) (T, bool) {
	for {
		if t, ok := w.(T); ok {
			return t, true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			var none T
			return none, false
		}
		w = u.Unwrap()
	}
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	w.ResponseWriter.WriteHeader(status)
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.sent(status)
	}
}

// sent records the status of the header. Only the first one is sent.
func (w *response) sent(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent(http.StatusOK)
	w.size += int64(n)
	return n, err
}

// WriteString implements io.StringWriter.
func (w *response) WriteString(s string) (int, error) {
	n, err := io.WriteString(w.ResponseWriter, s)
	w.sent(http.StatusOK)
	w.size += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom: the server sends files without copying them.
func (w *response) ReadFrom(src io.Reader) (n int64, err error) {
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		n, err = to.ReadFrom(src)
	} else {
		n, err = io.Copy(writerOnly{w.ResponseWriter}, src)
	}
	if n > 0 { // otherwise the header has not been sent
		w.sent(http.StatusOK)
	}
	w.size += n
	return n, err
}

// writerOnly hides all other methods, so that io.Copy does not look for them.
type writerOnly struct{ io.Writer }

// Flush implements http.Flusher.
func (w flushing) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w flushing) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.sent(http.StatusOK)
	return err
}

// Hijack implements http.Hijacker.
func (w hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.sent(http.StatusSwitchingProtocols)
	}
	return conn, rw, err
}

// Push implements http.Pusher.
func (w pushing) Push(target string, o *http.PushOptions) error {
	p, ok := find[http.Pusher](w.ResponseWriter)
	if !ok {
		return http.ErrNotSupported
	}
	return p.Push(target, o)
}
