package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/gotheus/gotheus/_examples/sqlite"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

// open opens the store in a file, as each process does.
func open(file string) (backend.Store, error) { return sqlite.Open(context.Background(), file) }

func fresh(t testing.TB) string { return filepath.Join(t.TempDir(), "metrics.db") }

// A store keeps to the rules of backend.Store.
func TestStore(t *testing.T) {
	backendtest.TestStore(t, func(t *testing.T) func() backend.Store {
		file := fresh(t)
		return func() backend.Store {
			s, err := open(file)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

var backends = backendtest.Backends{
	Fresh:     fresh,
	Open:      backendtest.OnStore(open, 20), // of whose calls one in twenty is lost
	Processes: true,
}

// Backends on it are exact, also in several processes, and when some of them are killed.
func TestBackend(t *testing.T) { backendtest.TestBackend(t, backends) }

func TestMain(m *testing.M) {
	backendtest.Worker(backends.Open)
	os.Exit(m.Run())
}

func BenchmarkStore(b *testing.B) {
	s, err := open(fresh(b))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	backendtest.BenchmarkStore(b, s)
}
