package metrichttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// sendBuffer is the size up to which a page, compressed if it is, is made before any of it
	// is sent. A client that does not read then blocks neither registry nor compressor.
	sendBuffer = 256 << 10

	// sendPiece is what a client must read at least to make progress.
	sendPiece = 32 << 10

	// stallLimit is how long a client may take for that, if nobody waits for its slot; or a
	// third of the scrape's time, if that is more. A server does not see how much a client
	// reads: a write ends when a good part of the connection's buffers is free, of which there
	// may be some megabytes.
	stallLimit = 3 * time.Second

	// writeGrace is the additional time for the last piece. Without a limit, such a client
	// would block the registry.
	writeGrace = 500 * time.Millisecond
)

// sendBuffers are as large as pages have been.
var sendBuffers = sync.Pool{New: func() any { return new([]byte) }}

// sending is a response on its way to a client.
type sending struct {
	ctx     context.Context
	out     io.Writer
	control *http.ResponseController
	stall   time.Duration // how long a write may take
	end     time.Time     // when the last write must have ended
	buf     *[]byte       // not sent yet; nil: nothing was written
	began   bool          // something was sent
	err     error         // of the client or the compressor: nothing more is sent

	mu     sync.Mutex
	since  time.Time // when the write in progress began; zero: there is none
	closed bool      // nothing may be sent any more
}

// newSending returns the response to r, for which there is time until ctx ends.
func newSending(ctx context.Context, w http.ResponseWriter, r *http.Request) *sending {
	s := &sending{ctx: ctx, out: w, control: http.NewResponseController(w)}
	end, _ := ctx.Deadline()
	s.stall = max(stallLimit, time.Until(end)/3)
	s.end = end.Add(writeGrace)
	if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && server.WriteTimeout > 0 {
		if its := time.Now().Add(server.WriteTimeout); its.Before(s.end) {
			s.end = its
		}
	}
	return s
}

// Write implements io.Writer. Errors of the client are also in s.err.
func (s *sending) Write(p []byte) (n int, err error) {
	if s.buf == nil {
		s.buf = sendBuffers.Get().(*[]byte)
	}
	for n < len(p) {
		b := *s.buf
		fits := min(sendBuffer-len(b), len(p)-n)
		if need := len(b) + fits; need > cap(b) {
			b = append(make([]byte, 0, min(max(need, 2*cap(b)), sendBuffer)), b...)
		}
		*s.buf = append(b, p[n:n+fits]...)
		n += fits
		if len(*s.buf) == sendBuffer {
			if err := s.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush sends what was written. The error says why that is not all of it.
func (s *sending) flush() error {
	if s.buf == nil {
		return nil
	}
	// The time may end during the last piece, and only then is everything sent nevertheless.
	for rest := *s.buf; len(rest) > 0 && s.err == nil; {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		some := rest[:min(len(rest), sendPiece)]
		rest = rest[len(some):]
		s.err = s.send(some)
	}
	*s.buf = (*s.buf)[:0]
	return s.err
}

var errCut = errors.New("metrichttp: the client did not read, and others wait")

func (s *sending) send(p []byte) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errCut
	}
	s.since = time.Now()
	limit := s.since.Add(s.stall)
	if limit.After(s.end) {
		limit = s.end
	}
	_ = s.control.SetWriteDeadline(limit) // not all writers support it
	s.mu.Unlock()
	s.began = true
	_, err := s.out.Write(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Time{}
	return err
}

// blockedSince returns when the write in progress began, if there is one that can be cut.
func (s *sending) blockedSince() (at time.Time, blocked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, !s.since.IsZero()
}

// cut makes the write in progress fail. It returns false if there is none, or if the server cannot
// do that.
func (s *sending) cut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.since.IsZero() {
		return false
	}
	if s.control.SetWriteDeadline(time.Unix(1, 0)) != nil {
		s.since = time.Time{} // so that others are tried
		return false
	}
	s.closed = true
	return true
}

// release ends the use of the client's writer, which others must not touch after the handler.
func (s *sending) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.out, s.control = nil, nil // a pooled compressor keeps a reference to s
	if s.buf != nil {
		*s.buf = (*s.buf)[:0]
		sendBuffers.Put(s.buf)
		s.buf = nil
	}
}
