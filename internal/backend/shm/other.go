//go:build !(linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x))

package shm

import (
	"context"
	"fmt"
	"runtime"

	"github.com/gotheus/gotheus/internal/backend"
)

// Backend implements backend.Backend on a mapped file. On this system it cannot be opened.
type Backend struct{ backend.Backend }

// OpenContext returns an error that wraps ErrUnsupported.
func OpenContext(_ context.Context, path string, _ *Options) (*Backend, error) {
	return nil, unsupported(path)
}

// Path returns "".
func (b *Backend) Path() string { return "" }

// Instances returns nil.
func (b *Backend) Instances() []Instance { return nil }

// Number returns 0.
func (b *Backend) Number() int { return 0 }

// Notices returns nil.
func (b *Backend) Notices() []string { return nil }

// Forget returns an error that wraps ErrUnsupported.
func (b *Backend) Forget(name string) (int, error) { return 0, unsupported(name) }

// Peek returns an error that wraps ErrUnsupported.
func Peek(path string, _ *Options) (Outcome, error) { return Create, unsupported(path) }

// Inspect returns an error that wraps ErrUnsupported.
func Inspect(name string) (*Report, error) { return nil, unsupported(name) }

func unsupported(path string) error {
	return fmt.Errorf("%w: %s on %s/%s: shared memory needs Linux and 64-bit atomic instructions", ErrUnsupported, path, runtime.GOOS, runtime.GOARCH)
}
