package report

import (
	"context"
	"log/slog"
	"slices"
)

// Forward returns a logger that writes each line to the logger that l has at that moment. It is for
// components that outlive a call of SetLogger.
func (l *Log) Forward() *slog.Logger { return slog.New(&forwarder{log: l}) }

// forwarder is a slog.Handler that passes records to the current logger of a Log.
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
	defer f.log.contain()
	return f.handler().Enabled(ctx, l)
}

func (f *forwarder) Handle(ctx context.Context, r slog.Record) error {
	defer f.log.contain()
	return f.handler().Handle(ctx, r)
}

func (f *forwarder) WithAttrs(attrs []slog.Attr) slog.Handler {
	return f.adding(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

func (f *forwarder) WithGroup(name string) slog.Handler {
	return f.adding(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (f *forwarder) adding(with func(slog.Handler) slog.Handler) slog.Handler {
	return &forwarder{f.log, append(slices.Clip(f.with), with)}
}
