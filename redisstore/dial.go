package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialTimeout is less than the timeout of one contact, which leaves time to try another node.
const dialTimeout = 2 * time.Second

// dialer returns go-redis' dialer, except that a failed dial returns a connection on which every
// command fails with the same error. On a dial error, go-redis would retry five times and print a
// line to standard error each time, although the caller retries anyway.
//
// A server that expects TLS, or does not, may just close the connection or wait. Then another
// connection finds out which it is, since the error would say nothing.
func dialer(timeout time.Duration, t *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: t})
	if t == nil {
		p := probe{is: isTLS, what: wantsTLS}
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return brokenConn{explainDial(err)}, nil
			}
			raw, ok := c.(syscall.Conn)
			if c = (&answerConn{Conn: c}); ok {
				c = &firstReader{Conn: c, raw: raw, closed: func() error { return p.ask(network, addr) }}
			}
			return c, nil
		}
	}
	p := probe{is: isPlain, what: noTLS}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		done := make(chan result, 1)
		go func() {
			c, err := dial(ctx, network, addr)
			done <- result{c, err}
		}()
		slow := time.NewTimer(slowHandshake)
		defer slow.Stop()
		select {
		case r := <-done:
			return r.conn()
		case <-slow.C:
		}
		if err := p.ask(network, addr); err != nil {
			go func() {
				if r := <-done; r.err == nil {
					r.c.Close()
				}
			}()
			return brokenConn{err}, nil
		}
		r := <-done
		return r.conn()
	}
}

// slowHandshake is when a plain server is suspected, which may never answer a handshake.
const slowHandshake = 500 * time.Millisecond

// result is what a dial returns.
type result struct {
	c   net.Conn
	err error
}

func (r result) conn() (net.Conn, error) {
	if r.err != nil {
		return brokenConn{explainDial(r.err)}, nil
	}
	return &answerConn{Conn: r.c}, nil
}

// probe finds out what a server is that does not answer.
type probe struct {
	is   func(c net.Conn, host string) bool
	what string // if so

	mu    sync.Mutex
	asked map[string]time.Time
	errs  map[string]error
}

// Limits of a probe, which is in addition to the contact that has failed.
const probeTime, probeAgain = time.Second, 5 * time.Second

// ask returns the error that says what the server is, or nil. Shortly after it has asked, it
// returns the same again.
func (p *probe) ask(network, addr string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked, p.errs = make(map[string]time.Time), make(map[string]error)
	}
	if last, ok := p.asked[addr]; ok && time.Since(last) < probeAgain {
		return p.errs[addr]
	}
	delete(p.errs, addr)
	if c, err := net.DialTimeout(network, addr, probeTime); err == nil {
		c.SetDeadline(time.Now().Add(probeTime))
		host, _, _ := net.SplitHostPort(addr)
		if p.is(c, host) {
			p.errs[addr] = &problem{p.what, errNotRedis, true}
		}
		c.Close()
	}
	p.asked[addr] = time.Now()
	return p.errs[addr]
}

// isTLS reports whether a server answers a handshake. It trusts nobody, and sends nothing else.
func isTLS(c net.Conn, host string) bool {
	err := tls.Client(c, &tls.Config{ServerName: host, InsecureSkipVerify: true}).Handshake()
	var alert tls.AlertError
	return err == nil || errors.As(err, &alert)
}

// isPlain reports whether a server answers as Redis does, without TLS.
func isPlain(c net.Conn, _ string) bool {
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	var first [1]byte
	_, err := c.Read(first[:])
	return err == nil && (first[0] == '+' || first[0] == '-')
}

// brokenConn is a connection on which everything fails.
type brokenConn struct{ err error }

func (c brokenConn) Read([]byte) (int, error)       { return 0, c.err }
func (c brokenConn) Write([]byte) (int, error)      { return 0, c.err }
func (brokenConn) Close() error                     { return nil }
func (brokenConn) LocalAddr() net.Addr              { return new(net.TCPAddr) }
func (brokenConn) RemoteAddr() net.Addr             { return new(net.TCPAddr) }
func (brokenConn) SetDeadline(time.Time) error      { return nil }
func (brokenConn) SetReadDeadline(time.Time) error  { return nil }
func (brokenConn) SetWriteDeadline(time.Time) error { return nil }

// What servers are that are not what the client takes them for.
const (
	notRedis = "the server does not answer as Redis does: is this the right port?"
	isHTTP   = "this is an HTTP server and not Redis: is this the right port?"
	wantsTLS = "the server wants TLS: use rediss:// instead of redis://"
	noTLS    = "the server does not use TLS: use redis:// instead of rediss://"
)

// explainDial returns err, with cause and remedy if the server is there.
func explainDial(err error) error {
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return &problem{isHTTP, err, true}
	case errors.As(err, &record):
		return &problem{noTLS, err, true}
	case errors.As(err, &certificate):
		return &problem{fmt.Sprintf("the certificate of the server cannot be trusted: %v: set SSL_CERT_FILE to its issuer's, "+
			"or use a name of the server that is in the certificate", certificate.Err), err, true}
	}
	return fmt.Errorf("redisstore: %w", err)
}

// firstReader is a connection that looks at the first byte from the server. If that is no Redis, or
// wants TLS, every Read fails and says so; go-redis would try again until the context ends.
type firstReader struct {
	net.Conn
	raw    syscall.Conn // the same connection
	closed func() error // explains why the server has closed it without an answer
	seen   bool
	err    error
}

// SyscallConn implements syscall.Conn. By it, go-redis sees that the server has closed a
// connection.
func (c *firstReader) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

var errNotRedis = errors.New("redisstore: the server does not speak the protocol of Redis")

// Read implements net.Conn.
func (c *firstReader) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(b)
	if !c.seen && n == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		if c.err = c.closed(); c.err != nil {
			return 0, c.err
		}
	}
	if c.seen || n == 0 {
		return n, err
	}
	c.seen = true
	if strings.IndexByte("+-:$*_,#!=(%~>|", b[0]) >= 0 {
		return n, err
	}
	what := notRedis
	switch {
	case b[0] == 0x15 || b[0] == 0x16: // an alert, or a handshake
		what = wantsTLS
	case strings.HasPrefix(string(b[:n]), "HTTP/"):
		what = isHTTP
	}
	c.err = &problem{what, errNotRedis, true}
	return 0, c.err
}
