//go:build linux

package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus/redisstore"
	"github.com/gotheus/gotheus/store"
	"github.com/gotheus/gotheus/store/storetest"
)

var conforming = storetest.Stores{
	Fresh:     func(t testing.TB) string { return startServer(t).url("ns=kit") },
	Open:      func(place string) (*store.Config, error) { return redisstore.Open(place) },
	Processes: true,
}

func TestStore(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, shards := range []int{1, 3} {
		var n atomic.Int64
		o := conforming
		o.Fresh = func(testing.TB) string {
			return s.url(fmt.Sprintf("ns=store%d_%d&shards=%d", shards, n.Add(1), shards))
		}
		t.Run(fmt.Sprint("shards=", shards), func(t *testing.T) { storetest.TestStore(t, o) })
	}
}

// Metrics as programs see them, also in child processes, on a network that loses one call in
// twenty.
func TestBackend(t *testing.T) { storetest.TestBackend(t, conforming) }

// The same with several shards.
func TestShardedBackend(t *testing.T) {
	o := conforming
	o.Fresh = func(t testing.TB) string { return startServer(t).url("ns=kit&shards=3") }
	storetest.TestBackend(t, o)
}

func BenchmarkStore(b *testing.B) { storetest.BenchmarkStore(b, conforming) }
