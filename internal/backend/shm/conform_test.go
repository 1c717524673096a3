//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"path/filepath"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// conforming is the backend under test. Files are named by their limit, so that every process that
// opens one has the same limit.
var conforming = backendtest.Backends{
	Fresh: func(t testing.TB) string { return filepath.Join(t.TempDir(), "large") },
	Small: func(t testing.TB) string { return filepath.Join(t.TempDir(), "small") },
	Open: func(place string) (backend.Backend, error) {
		limit := int64(8 << 20)
		if filepath.Base(place) == "small" {
			limit = 400 << 10
		}
		return Open(place, &Options{AnyFileSystem: true, Limit: limit})
	},
	Processes: true,
	Die:       func(b backend.Backend) { die(b.(*Backend)) },
}

func TestBackend(t *testing.T) { backendtest.TestBackend(t, conforming) }

func BenchmarkBackend(b *testing.B) { backendtest.BenchmarkBackend(b, conforming) }
