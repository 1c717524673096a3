package storetest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gotheus/gotheus/store"
	"github.com/gotheus/gotheus/store/storetest"
)

// fileStore stands for the store under test.
type fileStore struct{ store.Store }

func openFile(name string) (*fileStore, error) { return nil, os.ErrNotExist }

var stores = storetest.Stores{
	Fresh: func(t testing.TB) string { return filepath.Join(t.TempDir(), "metrics.db") },
	Open: func(file string) (*store.Config, error) {
		s, err := openFile(file)
		if err != nil {
			return nil, err
		}
		return &store.Config{Shards: []store.Store{s}}, nil
	},
	Processes: true, // child processes can open the file
}

// These are all tests that a store needs. In its package, they are the functions TestStore,
// TestBackend, BenchmarkStore and TestMain.
func Example() {
	var (
		_ = func(t *testing.T) { storetest.TestStore(t, stores) }
		_ = func(t *testing.T) { storetest.TestBackend(t, stores) }
		_ = func(b *testing.B) { storetest.BenchmarkStore(b, stores) }
		_ = func(m *testing.M) {
			storetest.Worker(stores) // does not return in a child process
			os.Exit(m.Run())
		}
	)
}
