// Package report logs the library's messages about its environment without flooding the log.
package report

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// interval is the shortest time between lines with the same cause.
const interval = time.Minute

// maxCauses is how many causes are remembered. Lines with further ones are dropped: names from
// outside are unlimited.
const maxCauses = 1000

// Log writes lines to a logger, at most one per cause and minute. The zero value writes to
// slog.Default(). All methods may be called concurrently. None calls the logger with a lock held,
// since a logger may update metrics.
type Log struct {
	Default *slog.Logger // used until SetLogger; nil: slog.Default() at the time of the line

	logger atomic.Pointer[slog.Logger]

	mu      sync.Mutex
	causes  map[string]*state
	holding bool
	held    []func() // lines that wait for Release
}

type state struct {
	last       time.Time
	suppressed int
}

// SetLogger sets the logger for further lines; nil: the default.
func (l *Log) SetLogger(to *slog.Logger) { l.logger.Store(to) }

// Logger returns the logger that lines go to.
func (l *Log) Logger() *slog.Logger {
	if to := l.logger.Load(); to != nil {
		return to
	}
	if l.Default != nil {
		return l.Default
	}
	return slog.Default()
}

// Log logs a line, unless there was one with the same cause within the last minute.
func (l *Log) Log(level slog.Level, cause, msg string, args ...any) {
	line := l.line(level, cause, msg, args)
	if line != nil {
		line()
	}
}

// line returns a function that writes the line; nil if the line is suppressed or held.
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
	line := func() { l.Logger().Log(context.Background(), level, "gotheus: "+msg, args...) }
	if l.holding {
		l.held = append(l.held, line)
		return nil
	}
	return line
}

// Forget forgets a cause that will not occur again.
func (l *Log) Forget(cause string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.causes, cause)
}

// Hold keeps back all further lines until Release: the caller holds locks that a logger may need.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
}

// Later adds a line that Release writes.
func (l *Log) Later(level slog.Level, msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = append(l.held, func() { l.Logger().Log(context.Background(), level, "gotheus: "+msg, args...) })
}

// Release writes the lines that were kept back.
func (l *Log) Release() {
	l.mu.Lock()
	held := l.held
	l.held, l.holding = nil, false
	l.mu.Unlock()
	for _, line := range held {
		line()
	}
}
