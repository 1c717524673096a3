package backendtest_test

import (
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	backendtest.TestStore(t, func(*testing.T) func() backend.Store {
		m := new(backendtest.Memory)
		return func() backend.Store { return m }
	})
}

func BenchmarkStore(b *testing.B) { backendtest.BenchmarkStore(b, new(backendtest.Memory)) }
