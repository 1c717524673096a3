package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// dialTimeout is less than the timeout of one contact, which leaves time to try another node.
const dialTimeout = 2 * time.Second

// dialer returns go-redis' dialer, except that a failed dial returns a connection on which every
// command fails with the same error. On a dial error, go-redis would retry five times and print a
// line to standard error each time, although the caller retries anyway.
func dialer(timeout time.Duration, t *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: t})
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return brokenConn{explainDial(err)}, nil
		}
		if s, ok := c.(syscall.Conn); ok { // not with TLS
			return &firstReader{Conn: c, raw: s}, nil
		}
		return c, nil
	}
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
	raw  syscall.Conn // the same connection
	seen bool
	err  error
}

// SyscallConn implements syscall.Conn. By it, go-redis sees that the server has closed a connection.
func (c *firstReader) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

var errNotRedis = errors.New("redisstore: the server does not speak the protocol of Redis")

// Read implements net.Conn.
func (c *firstReader) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(b)
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
