package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
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
