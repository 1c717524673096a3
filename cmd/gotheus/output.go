package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// stderrKept is how many bytes of a worker's stderr are kept until it is ready.
const stderrKept = 8 << 10

// numbered returns a number with its noun, such as "1 family" or "2 families".
func numbered(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// printable returns one value from a file or from elsewhere as a terminal can show it: on one line,
// with control characters, those that change the direction of text, and bytes that are not UTF-8
// escaped.
func printable(s string) string { return string(appendPrintable(nil, s, "")) }

// appendPrintable appends s with everything escaped that is not printable, except for the
// characters in keep. The escapes are also those of JSON, since valid JSON must remain that.
func appendPrintable(b []byte, s, keep string) []byte {
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, s[0])
		case strconv.IsPrint(r) || strings.ContainsRune(keep, r):
			b = append(b, s[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		case r == '\n':
			b = append(b, `\n`...)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b
}

// printableWriter escapes what a terminal might take for an instruction, whoever has written it.
// Values that must not contain line breaks go through printable before. It keeps the first error.
type printableWriter struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

func (s *printableWriter) Write(b []byte) (int, error) {
	_, err := s.w.Write(appendPrintable(nil, string(b), "\n\t"))
	if err == nil {
		return len(b), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return 0, err
}

// printer writes whole lines of several goroutines.
type printer struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format, args...)
}

// output holds what a worker writes to its stderr until the worker is ready: if it never is, that
// goes into a single error instead of a line per attempt.
type output struct {
	mu     sync.Mutex
	held   []byte
	to     *printer
	prefix string
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to != nil || len(o.held) < stderrKept {
		o.held = append(o.held, b...)
	}
	o.flush()
	return len(b), nil
}

func (o *output) flush() {
	for o.to != nil {
		line, rest, ok := bytes.Cut(o.held, []byte("\n"))
		if !ok {
			return
		}
		o.to.printf("%s%s\n", o.prefix, line)
		o.held = rest
	}
}

func (o *output) forward(to *printer, prefix string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to, o.prefix = to, prefix
	o.flush()
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(string(o.held))
}
