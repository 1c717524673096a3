//go:build linux

package redisstore_test

import (
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/redisstore"
)

var conforming = backendtest.Backends{
	Fresh: func(t testing.TB) string { return startServer(t).url("ns=kit") },
	Open: func(place string) (backend.Backend, error) {
		if strings.Contains(place, "shards=") {
			return redisstore.Open(place)
		}
		return onFaultyNetwork(place)
	},
	Processes: true,
}

var onFaultyNetwork = backendtest.OnStore(func(place string) (backend.Store, error) {
	return redisstore.OpenStore(place)
}, 20)

// The rules for backends, with child processes, and a network that loses one call in twenty.
func TestBackend(t *testing.T) { backendtest.TestBackend(t, conforming) }

// The same in a namespace of several shards, on a network without faults.
func TestShardedBackend(t *testing.T) {
	o := conforming
	o.Fresh = func(t testing.TB) string { return startServer(t).url("ns=kit&shards=3&interval=20ms&alive=5s") }
	backendtest.TestBackend(t, o)
}

func BenchmarkStore(b *testing.B) {
	s, err := redisstore.OpenStore(startServer(b).url(""))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	backendtest.BenchmarkStore(b, s)
}
