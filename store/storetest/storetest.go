// Package storetest tests implementations of store.Store.
//
// A store is correct if [TestStore] and [TestBackend] pass. Its tests are these few lines, with the
// store's own Fresh and Open:
//
//	var stores = storetest.Stores{
//		Fresh: func(t testing.TB) string {
//			return filepath.Join(t.TempDir(), "metrics.db")
//		},
//		Open: func(file string) (*store.Config, error) {
//			s, err := mystore.Open(file)
//			if err != nil {
//				return nil, err
//			}
//			return &store.Config{Shards: []store.Store{s}}, nil
//		},
//		Processes: true,
//	}
//
//	func TestStore(t *testing.T)      { storetest.TestStore(t, stores) }
//	func TestBackend(t *testing.T)    { storetest.TestBackend(t, stores) }
//	func BenchmarkStore(b *testing.B) { storetest.BenchmarkStore(b, stores) }
//
//	func TestMain(m *testing.M) {
//		storetest.Worker(stores)
//		os.Exit(m.Run())
//	}
package storetest

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/store"
)

// patience limits the wait for background work, generously for slow machines.
const patience = 2 * time.Minute

// Stores tells the tests how to make and open stores. Fresh and Open are required: without them,
// the tests fail.
type Stores struct {
	// Fresh makes a new, empty place and returns its name for Open, such as a file name or a
	// URL. It can register clean-up with t.Cleanup.
	Fresh func(t testing.TB) (place string)
	// Open opens the stores in a place, like each process that uses it. It may be called
	// concurrently, and in other processes if Processes is set. The tests close what they open,
	// and set Config.Options themselves.
	Open func(place string) (*store.Config, error)
	// Processes says that Open also works in other processes. TestMain must then call [Worker].
	Processes bool
}

// check fails the test if o cannot be used.
func (o *Stores) check(t testing.TB) {
	t.Helper()
	switch {
	case o.Fresh == nil:
		t.Fatal("storetest: Stores.Fresh is nil: it must make a new, empty place and return its name")
	case o.Open == nil:
		t.Fatal("storetest: Stores.Open is nil: it must open the stores in a place")
	}
}

// in opens the stores in a place, and checks that they can be used.
func (o *Stores) in(place string) ([]store.Store, error) {
	c, err := o.Open(place)
	if err == nil {
		err = open.Check(c)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range c.Shards {
		if s, ok := s.(store.LoggerSetter); ok {
			s.SetLogger(slog.New(slog.DiscardHandler))
		}
	}
	return c.Shards, nil
}

// TestBackend checks metrics in the stores as programs see them: in random histories, processes
// start, count, set, delete, and close or are killed, and each must show the values of a model. One
// store call in twenty gets lost, loses its answer or arrives twice. All kinds of metrics are
// covered.
//
// The histories have fixed seeds: go test -kit.histories 100 runs more of them, and -kit.seed 7
// repeats one.
func TestBackend(t *testing.T, o Stores) {
	o.check(t)
	backendtest.TestBackend(t, backendtest.Backends{Fresh: o.Fresh, Open: o.backend(), Processes: o.Processes})
}

// Worker runs the test binary as a process of TestBackend if it was started as one, and then does
// not return. TestMain must call it first. It panics with an error that wraps store.ErrInvalid if
// o.Open is nil.
func Worker(o Stores) {
	if o.Open == nil {
		panic(fmt.Errorf("storetest: %w: Worker: Stores.Open is nil: it must open the stores in a place", store.ErrInvalid))
	}
	backendtest.Worker(o.backend())
}

func (o *Stores) backend() func(place string) (backend.Backend, error) {
	return backendtest.OnStores(o.in, 20)
}
