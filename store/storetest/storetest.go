// Package storetest tests stores that keep metrics, see package store.
//
// A store passes if [TestStore] and [TestBackend] do. The tests of a store are these few lines, in
// which Fresh and Open are the store's:
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
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// patience is how long a test waits for what a store's users do in their own time: machines are
// slow at times.
const patience = 2 * time.Minute

// Stores says how to make the stores under test.
type Stores struct {
	// Fresh makes a new, empty place and returns what Open calls it, such as the name of a file
	// or a URL. It may leave its removal to t.Cleanup.
	Fresh func(t testing.TB) (place string)
	// Open opens the stores in a place, as each process that uses it does. It may be called
	// concurrently, and in other processes if Processes is set. The tests close what they have
	// opened, and choose Config.Options themselves.
	Open func(place string) (*store.Config, error)
	// Processes says that Open finds a place in other processes, too. TestMain must call
	// [Worker].
	Processes bool
}

// TestBackend checks what programs get to see of metrics in the stores: processes come, count, set,
// delete, and go or are killed, in random histories, and each must show what a model says. One call
// of a store in twenty gets lost, is answered by nobody, or comes twice. It covers every kind of
// metric.
//
// The histories have fixed seeds: with -kit.histories 100, go test plays more of them, and with
// -kit.seed 7 one again.
func TestBackend(t *testing.T, o Stores) {
	backendtest.TestBackend(t, backendtest.Backends{Fresh: o.Fresh, Open: o.backend(), Processes: o.Processes})
}

// Worker makes the test binary one of the processes of TestBackend, if that has started it as one.
// Then it does not return. TestMain calls it first.
func Worker(o Stores) { backendtest.Worker(o.backend()) }

func (o *Stores) backend() func(place string) (backend.Backend, error) {
	return backendtest.OnStores(func(place string) ([]store.Store, error) {
		c, err := o.Open(place)
		if err != nil {
			return nil, err
		}
		return c.Shards, c.Check()
	}, 20)
}
