package gotheus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// What the registry says about itself: log lines and the gotheus_* families.

const (
	rejectedName = "gotheus_rejected_updates_total"
	rejectedHelp = "Updates that were ignored because of their value, by metric."

	collectorErrorsName = "gotheus_collector_errors_total"
	collectorErrorsHelp = "Collectors, or families of theirs, that were left out of a page because of an error."

	backendUpName = "gotheus_backend_up"
	backendUpHelp = "Whether the backend that this process was told to use is open."

	postponedName = "gotheus_postponed_series"
	postponedHelp = "Series of this process that the backend has no room for yet."

	hiddenName = "gotheus_hidden_series"
	hiddenHelp = "Series in the backend that are not shown because their family clashes with another one."
)

// logEvery is how long a log line is not repeated for the same cause.
const logEvery = time.Minute

type logState struct {
	last       time.Time
	suppressed int
}

func (r *Registry) logger() *slog.Logger {
	if r.opts.Logger != nil {
		return r.opts.Logger
	}
	return slog.Default()
}

// log logs a line, at most once per cause and minute.
func (r *Registry) log(level slog.Level, cause, msg string, args ...any) {
	r.mu.Lock()
	st := r.logged[cause]
	if st == nil {
		if r.logged == nil {
			r.logged = make(map[string]*logState)
		}
		st = new(logState)
		r.logged[cause] = st
	}
	now := time.Now()
	if now.Sub(st.last) < logEvery {
		st.suppressed++
		r.mu.Unlock()
		return
	}
	if st.suppressed > 0 {
		args = append(args, "suppressed", st.suppressed)
	}
	*st = logState{last: now}
	r.mu.Unlock()
	r.logger().Log(context.Background(), level, "gotheus: "+msg, args...)
}

// reject counts and logs an update that was ignored.
func (f *family) reject(op string, v float64, rule string) {
	r := f.reg
	if !r.opts.NoSelfMetrics && f.def.Name != r.opts.Prefix+rejectedName {
		if vec, err := newOwnVec(r, rejectedName, rejectedHelp); err == nil {
			vec.With(f.def.Name).Inc()
		}
	}
	r.log(slog.LevelWarn, "reject "+f.def.Name, "an update was ignored", "metric", f.def.Name, "operation", op, "value", v, "rule", rule)
}

// ownPrefix is reserved for what the registry says about itself.
const ownPrefix = "gotheus_"

func checkName(name string) error {
	if strings.HasPrefix(name, ownPrefix) {
		return fmt.Errorf("%w: name %q: %s is reserved for the library's own metrics", ErrInvalid, name, ownPrefix)
	}
	return nil
}

// ownLabel is the label for a family's name.
func (r *Registry) ownLabel() string {
	if _, ok := r.opts.Labels["metric"]; ok {
		return "gotheus_metric"
	}
	return "metric"
}

func newOwn(r *Registry, name, help string) (*Counter, error) {
	return newSingle[Counter](r, name, help, nil)
}

func newOwnVec(r *Registry, name, help string) (*Vec[Counter], error) {
	return newVecOn[Counter](r, name, help, &Options{MaxSeries: -1}, r.ownLabel())
}
