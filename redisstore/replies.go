package redisstore

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Limits of what a server may answer to one request, or to several that are sent together. go-redis
// believes the lengths that an answer begins with: it would allocate any number of bytes at once,
// and nest arrays until the stack of the program is used up.
const (
	maxAnswer   = 256 << 20 // bytes
	maxString   = 64 << 20
	maxElements = 4 << 20 // in all arrays
	maxDepth    = 32      // of arrays in arrays
	maxLine     = 64 << 10
)

var errTooMuch = errors.New("redisstore: the answer of the server is too large")

// answerConn is a connection whose answers are looked at before go-redis reads them. What is beyond
// the limits is an error of Read, and nothing can be read any more.
type answerConn struct {
	net.Conn
	answer answer
	err    error
}

// Read implements net.Conn.
func (c *answerConn) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(b)
	if what := c.answer.look(b[:n]); what != "" {
		c.err = &problem{what, errTooMuch, true}
		return 0, c.err
	}
	return n, err
}

// Write implements net.Conn.
func (c *answerConn) Write(b []byte) (int, error) {
	c.answer.size, c.answer.elements = 0, 0
	return c.Conn.Write(b)
}

// answer follows the answers of a server.
type answer struct {
	size     int64 // bytes since the last request
	elements int64 // likewise
	line     [24]byte
	length   int   // of the line so far
	rest     int64 // bytes of a string that are still to come
	open     []int64
}

// look looks at the next bytes. It returns what is wrong with them, or "".
func (a *answer) look(b []byte) string {
	if a.size += int64(len(b)); a.size > maxAnswer {
		return fmt.Sprintf("the server answers with more than %d MiB: is anything else writing to the namespace?", maxAnswer>>20)
	}
	for len(b) > 0 {
		if a.rest > 0 {
			n := min(a.rest, int64(len(b)))
			b = b[n:]
			if a.rest -= n; a.rest == 0 {
				a.element()
			}
			continue
		}
		n := len(b)
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			n = i + 1
		}
		copy(a.line[min(a.length, len(a.line)):], b[:n])
		a.length += n
		if a.length > maxLine {
			return fmt.Sprintf("the server answers with a line of more than %d KiB: is this Redis?", maxLine>>10)
		}
		if b[n-1] == '\n' {
			line := a.line[:min(a.length, len(a.line))]
			a.length = 0
			if what := a.begin(line); what != "" {
				return what
			}
		}
		b = b[n:]
	}
	return ""
}

// begin looks at the first line of an element.
func (a *answer) begin(line []byte) string {
	var each int64
	switch line[0] {
	case '$', '=', '!':
	case '*', '~', '>':
		each = 1
	case '%', '|':
		each = 2
	default:
		a.element()
		return ""
	}
	n, err := strconv.ParseInt(string(bytes.TrimRight(line[1:], "\r\n")), 10, 64)
	switch {
	case err != nil || n < -1:
		return notRedis
	case line[0] == '!' && n > maxLine: // errors are logged
		return fmt.Sprintf("the server answers with an error of more than %d KiB: is this Redis?", maxLine>>10)
	case each == 0 && n > maxString:
		return fmt.Sprintf("the server answers with a value of more than %d MiB: is anything else writing to the namespace?", maxString>>20)
	case each == 0 && n >= 0:
		a.rest = n + 2
		return ""
	case n <= 0 && line[0] != '|':
		a.element()
		return ""
	case n <= 0:
		return ""
	}
	if n > maxElements || a.elements+n*each > maxElements || len(a.open) == maxDepth {
		return fmt.Sprintf("the server answers with more than %d values, or nests them deeper than %d: is anything else writing to the namespace?", maxElements, maxDepth)
	}
	a.elements += n * each
	if n *= each; line[0] == '|' {
		n++ // the value that the attributes are of
	}
	a.open = append(a.open, n)
	return ""
}

// element is called after each element of an answer.
func (a *answer) element() {
	for len(a.open) > 0 {
		last := &a.open[len(a.open)-1]
		if *last--; *last > 0 {
			return
		}
		a.open = a.open[:len(a.open)-1] // which was an element itself
	}
}
