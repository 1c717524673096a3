package heap_test

import (
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

var backends = backendtest.Backends{
	Fresh: func(testing.TB) string { return "" },
	Open:  func(string) (backend.Backend, error) { return heap.New(), nil },
	Alone: true,
}

func TestBackend(t *testing.T) { backendtest.TestBackend(t, backends) }

func BenchmarkBackend(b *testing.B) { backendtest.BenchmarkBackend(b, backends) }
