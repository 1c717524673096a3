package gotheus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/store"
)

// EnvBackend is the environment variable with the URL of the backend that the default registry is
// bound to, see [Default].
const EnvBackend = "GOTHEUS_BACKEND"

// defaultRegistry is never nil.
var defaultRegistry atomic.Pointer[Registry]

func init() {
	r := new(Registry)
	r.home.Log.OnPanic(r.home.CountPanic)
	r.base().bind.env = true
	defaultRegistry.Store(r)
}

// Default returns the registry that package-level functions use. If the environment variable
// GOTHEUS_BACKEND is set, the registry is bound to the URL in it: at its first page, Flush, Close
// or Bind, or a moment after its first metric is defined, whichever comes first. The environment
// takes precedence over the program: whenever the program then binds the registry to anything else,
// that is an error that wraps ErrBound, until it calls Close.
func Default() *Registry { return defaultRegistry.Load() }

// SetDefault makes r the registry that package-level functions use from now on, and to which
// GOTHEUS_BACKEND applies. Existing metrics stay in the registry they were defined in. Call it
// before r is used. It panics with an error that wraps ErrInvalid if r is nil.
func SetDefault(r *Registry) {
	if r == nil {
		panic(fmt.Errorf("%w: SetDefault: the registry is nil", ErrInvalid))
	}
	r.base().bind.env = true
	defaultRegistry.Store(r)
}

// startEnv schedules applyEnv.
func (r *Registry) startEnv() {
	if r.bind.env {
		r.bind.envTimer.Do(func() {
			time.AfterFunc(envDelay, func() {
				// If main has not set it yet, what needs it first reads it again.
				if os.Getenv(EnvBackend) != "" {
					r.applyEnv(context.Background())
				}
			})
		})
	}
}

// applyEnv binds r to GOTHEUS_BACKEND, unless that was done before. If another goroutine is doing
// so, it waits for it. bindURL logs errors and retries.
func (r *Registry) applyEnv(ctx context.Context) {
	if !r.bind.env || r.bind.envDone.Load() {
		return
	}
	rawURL := os.Getenv(EnvBackend)
	if rawURL == "" {
		r.bind.envDone.Store(true)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	r.bindURL(ctx, rawURL, true)
}

// The functions below call the methods of the same names on the default registry. Its constructors
// are in constructors.go, func.go, info.go and typed.go.

// Bind binds the default registry to the backend that a URL names, see [Registry.Bind].
func Bind(ctx context.Context, url string) error { return Default().Bind(ctx, url) }

// BindBackend binds the default registry to b, see [Registry.BindBackend].
func BindBackend(ctx context.Context, b Backend) error { return Default().BindBackend(ctx, b) }

// BindStore binds the default registry to stores, see [Registry.BindStore].
func BindStore(ctx context.Context, c *store.Config) error { return Default().BindStore(ctx, c) }

// Flush flushes the default registry, see [Registry.Flush].
func Flush(ctx context.Context) error { return Default().Flush(ctx) }

// Close closes the default registry, see [Registry.Close].
func Close(ctx context.Context) error { return Default().Close(ctx) }

// Sub returns a view of the default registry, see [Registry.Sub].
func Sub(prefix string, labels Labels) *Registry { return Default().Sub(prefix, labels) }

// Include exposes another registry's families on the pages of the default registry, see
// [Registry.Include].
func Include(other *Registry) (remove func()) { return Default().Include(other) }

// Register registers a collector with the default registry, see [Registry.Register].
func Register(c Collector) (remove func()) { return Default().Register(c) }

// HideFamily hides a family of the default registry, see [Registry.HideFamily].
func HideFamily(name string) bool { return Default().HideFamily(name) }

// SetLogger sets the logger of the default registry, see [Registry.SetLogger].
func SetLogger(l *slog.Logger) { Default().SetLogger(l) }

// WriteText writes the page of the default registry, see [Registry.WriteText].
func WriteText(w io.Writer) error { return Default().WriteText(w) }

// WriteFile writes the page of the default registry to a file, see [Registry.WriteFile].
func WriteFile(ctx context.Context, name string, o *WriteOptions) error {
	return Default().WriteFile(ctx, name, o)
}
