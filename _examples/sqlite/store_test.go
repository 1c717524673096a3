package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/_examples/sqlite"
	"github.com/gotheus/gotheus/store"
	"github.com/gotheus/gotheus/store/storetest"
)

var stores = storetest.Stores{
	Fresh:     func(t testing.TB) string { return filepath.Join(t.TempDir(), "metrics.db") },
	Open:      func(path string) (*store.Config, error) { return sqlite.Open(context.Background(), path) },
	Processes: true, // other processes can open the file
}

// The store follows the rules of store.Store.
func TestStore(t *testing.T) { storetest.TestStore(t, stores) }

// Metrics in it are exact, also with several processes of which some are killed.
func TestBackend(t *testing.T) { storetest.TestBackend(t, stores) }

func BenchmarkStore(b *testing.B) { storetest.BenchmarkStore(b, stores) }

func TestMain(m *testing.M) {
	storetest.Worker(stores)
	os.Exit(m.Run())
}

// A program can bind the file by URL or with Open.
func TestBind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.db")
	count := func(bind func(*gotheus.Registry) error) {
		t.Helper()
		r := gotheus.NewRegistry(nil)
		if err := bind(r); err != nil {
			t.Fatal(err)
		}
		r.NewCounter("jobs_total", "Jobs.", nil).Inc()
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	count(func(r *gotheus.Registry) error { return r.Bind(t.Context(), "sqlite://"+path) })
	count(func(r *gotheus.Registry) error {
		c, err := sqlite.Open(t.Context(), path)
		return errors.Join(err, r.BindStore(t.Context(), c))
	})
	r := gotheus.NewRegistry(nil)
	defer r.Close(context.Background())
	if err := r.Bind(t.Context(), "sqlite://"+path); err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	if err := r.WriteText(&page); err != nil || !strings.Contains(page.String(), "\njobs_total 2\n") {
		t.Errorf("%v:\n%s", err, &page)
	}
	if err := new(gotheus.Registry).Bind(t.Context(), "sqlite:metrics.db"); err == nil || !strings.Contains(err.Error(), "the absolute path of a file") {
		t.Errorf("a relative path: %v", err)
	}
}
