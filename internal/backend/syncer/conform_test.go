package syncer_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

var (
	memories sync.Map // by place
	places   atomic.Int64
)

// The conformance kit, over a store in memory and a network that loses one call in twenty.
func TestBackend(t *testing.T) {
	backendtest.TestBackend(t, backendtest.Backends{
		Fresh: func(testing.TB) string {
			place := fmt.Sprint(places.Add(1))
			memories.Store(place, new(backendtest.Memory))
			return place
		},
		Open: backendtest.OnStore(func(place string) (store.Store, error) {
			m, _ := memories.Load(place)
			return m.(*backendtest.Memory), nil
		}, 20),
	})
}

// The same over four shards.
func TestShardedBackend(t *testing.T) {
	backendtest.TestBackend(t, backendtest.Backends{
		Fresh: func(testing.TB) string {
			place := fmt.Sprint(places.Add(1))
			memories.Store(place, new([4]backendtest.Memory))
			return place
		},
		Open: backendtest.OnStores(func(place string) (list []store.Store, err error) {
			m, _ := memories.Load(place)
			for i := range m.(*[4]backendtest.Memory) {
				list = append(list, &m.(*[4]backendtest.Memory)[i])
			}
			return list, nil
		}, 20),
	})
}
