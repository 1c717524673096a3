//go:build !(linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x))

package shm

import (
	"context"
	"fmt"
	"runtime"

	"github.com/gotheus/gotheus/backend"
)

// Backend implements backend.Backend on a mapped file. It cannot be opened on this system.
type Backend struct{ backend.Backend }

// OpenContext returns an error that wraps ErrUnsupported.
func OpenContext(_ context.Context, path string, _ *Options) (*Backend, error) {
	return nil, fmt.Errorf("%w: %s on %s/%s: shared memory needs Linux and 64-bit atomic instructions", ErrUnsupported, path, runtime.GOOS, runtime.GOARCH)
}

// Path returns "".
func (b *Backend) Path() string { return "" }

// Instances returns nil.
func (b *Backend) Instances() []Instance { return nil }
