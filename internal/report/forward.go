package report

import (
	"context"
	"log/slog"
	"slices"
)

// Forward returns a logger that stays valid across calls of SetLogger: each line goes to the logger
// that l has at the time.
func (l *Log) Forward() *slog.Logger { return slog.New(&forwarder{log: l}) }

// forwarder forwards to the handler of the logger that a Log has at the time.
type forwarder struct {
	log  *Log
	with []func(slog.Handler) slog.Handler // attributes and groups
}

func (f *forwarder) handler() slog.Handler {
	h := f.log.Logger().Handler()
	for _, with := range f.with {
		h = with(h)
	}
	return h
}

func (f *forwarder) Enabled(ctx context.Context, l slog.Level) bool {
	return f.handler().Enabled(ctx, l)
}

func (f *forwarder) Handle(ctx context.Context, r slog.Record) error {
	return f.handler().Handle(ctx, r)
}

func (f *forwarder) WithAttrs(attrs []slog.Attr) slog.Handler {
	return f.and(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (f *forwarder) WithGroup(name string) slog.Handler {
	return f.and(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (f *forwarder) and(with func(slog.Handler) slog.Handler) slog.Handler {
	return &forwarder{f.log, append(slices.Clip(f.with), with)}
}
