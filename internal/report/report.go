// Package report logs a library's warnings about its environment without flooding the log.
package report

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// interval is the minimum time between two lines of the same cause.
const interval = time.Minute

// maxCauses limits the causes that are remembered. Lines of further causes are dropped: causes
// contain names from outside, of which there may be any number.
const maxCauses = 1000

// Log writes lines to a logger, at most one per cause and minute. The zero value writes to
// slog.Default(). All methods may be called concurrently, and none calls the logger while it holds
// a lock: a logger may update metrics.
type Log struct {
	Default *slog.Logger // used unless SetLogger sets another; nil: slog.Default() at that time

	logger    atomic.Pointer[slog.Logger]
	onPanic   atomic.Pointer[func()]
	lastPanic atomic.Int64 // in ns since 1970, of the last one that was said

	mu      sync.Mutex
	causes  map[string]*state
	holding bool
	held    []func() // lines that wait for Release
}

type state struct {
	last       time.Time
	suppressed int
}

// SetLogger directs further lines to another logger. Nil restores the default.
func (l *Log) SetLogger(to *slog.Logger) { l.logger.Store(to) }

// Logger returns the logger in use.
func (l *Log) Logger() *slog.Logger {
	if to := l.logger.Load(); to != nil {
		return to
	}
	if l.Default != nil {
		return l.Default
	}
	return slog.Default()
}

// Log logs a line, unless one of the same cause was logged within the last minute.
func (l *Log) Log(level slog.Level, cause, msg string, args ...any) {
	line := l.line(level, cause, msg, args)
	if line != nil {
		line()
	}
}

// line returns a function that writes the line, or nil if the line is suppressed or held.
func (l *Log) line(level slog.Level, cause, msg string, args []any) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.causes[cause]
	now := time.Now()
	if st == nil {
		if l.causes == nil {
			l.causes = make(map[string]*state)
		}
		if len(l.causes) >= maxCauses {
			maps.DeleteFunc(l.causes, func(_ string, st *state) bool { return now.Sub(st.last) >= interval })
		}
		if len(l.causes) >= maxCauses {
			return nil
		}
		st = new(state)
		l.causes[cause] = st
	}
	if now.Sub(st.last) < interval {
		st.suppressed++
		return nil
	}
	if st.suppressed > 0 {
		args = append(args, "suppressed", st.suppressed)
	}
	*st = state{last: now}
	line := func() { l.write(level, msg, args) }
	if l.holding {
		l.held = append(l.held, line)
		return nil
	}
	return line
}

// write writes a line.
func (l *Log) write(level slog.Level, msg string, args []any) {
	defer l.contain()
	l.Logger().Log(context.Background(), level, "gotheus: "+msg, args...)
}

// Forget removes a cause, so that its next line is logged at once.
func (l *Log) Forget(cause string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.causes, cause)
}

// Hold delays all further lines until Release, since the caller holds locks that a logger may need.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
}

// Later adds a line for Release to write, whatever its cause.
func (l *Log) Later(level slog.Level, msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, func() { l.write(level, msg, args) })
}

// Release writes the held lines and ends Hold.
func (l *Log) Release() {
	l.mu.Lock()
	held := l.held
	l.held, l.holding = nil, false
	l.mu.Unlock()
	for _, line := range held {
		line()
	}
}
