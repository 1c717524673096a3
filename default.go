package gotheus

import (
	"context"
	"io"
	"log/slog"
)

// What programs want of the default registry, besides its metrics. Bind and Close are in bind.go.

// Flush flushes the default registry, see [Registry.Flush].
func Flush(ctx context.Context) error { return Default().Flush(ctx) }

// Register registers a collector with the default registry, see [Registry.Register].
func Register(c Collector) (remove func()) { return Default().Register(c) }

// HideFamily hides a family of the default registry, see [Registry.HideFamily].
func HideFamily(name string) bool { return Default().HideFamily(name) }

// SetLogger sends what the default registry has to say to l, see [Registry.SetLogger].
func SetLogger(l *slog.Logger) { Default().SetLogger(l) }

// WriteText writes the page of the default registry, see [Registry.WriteText].
func WriteText(w io.Writer) error { return Default().WriteText(w) }

// WriteFile writes the page of the default registry to a file, see [Registry.WriteFile].
func WriteFile(ctx context.Context, name string, o *WriteOptions) error {
	return Default().WriteFile(ctx, name, o)
}
