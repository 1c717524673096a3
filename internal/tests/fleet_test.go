package tests_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// fleets holds stores in memory, each with the processes that use it.
var fleets struct {
	sync.Mutex
	n      int
	stores map[string]*fleet
	hosts  map[string]*fleetStore
}

type fleet struct {
	shards []backendtest.Memory
	mu     sync.Mutex
	dead   map[string]bool // heads of killed processes
}

// fleetStore is one process's connection to the stores.
type fleetStore struct {
	*fleet
	name   string
	heads  map[string]bool // heads that this process has written
	killed bool
}

func init() {
	fleets.stores, fleets.hosts = make(map[string]*fleet), make(map[string]*fleetStore)
	store.Register("fleet", func(_ context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
		fleets.Lock()
		defer fleets.Unlock()
		host := fleets.hosts[u.Opaque]
		c := &store.Config{Options: store.Options{Logger: quiet, Alive: time.Hour}}
		for i := range host.shards {
			c.Shards = append(c.Shards, fleetShard{host, &host.shards[i]})
		}
		return c, nil
	})
}

func newFleet(testing.TB) string        { return newFleetOf(1) }
func newShardedFleet(testing.TB) string { return newFleetOf(3) }

func newFleetOf(shards int) string {
	fleets.Lock()
	defer fleets.Unlock()
	fleets.n++
	name := fmt.Sprint("f", fleets.n)
	fleets.stores[name] = &fleet{shards: make([]backendtest.Memory, shards), dead: make(map[string]bool)}
	return "fleet:" + name
}

func joinFleet(where string) *fleetStore {
	fleets.Lock()
	defer fleets.Unlock()
	fleets.n++
	h := &fleetStore{fleet: fleets.stores[where], name: fmt.Sprint("h", fleets.n), heads: make(map[string]bool)}
	fleets.hosts[h.name] = h
	return h
}

var errKilled = errors.New("this process was killed")

func (h *fleetStore) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.killed = true
	for name := range h.heads {
		h.dead[name] = true
	}
}

// isKilled reports whether the process that a worker simulates was killed.
func isKilled(url string) bool {
	fleets.Lock()
	host := fleets.hosts[strings.TrimPrefix(url, "fleet:")]
	fleets.Unlock()
	return host != nil && host.check() != nil
}

func (h *fleetStore) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.killed {
		return errKilled
	}
	return nil
}

// fleetShard is one of the stores.
type fleetShard struct {
	*fleetStore
	*backendtest.Memory
}

// Heads makes killed processes look as if they had been silent for a long time.
func (h fleetShard) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	heads, err := h.Memory.Heads(ctx, names)
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, head := range heads {
		if h.dead[name] {
			head.Age += 24 * time.Hour
			heads[name] = head
		}
	}
	return heads, err
}

func (h fleetShard) Commit(ctx context.Context, c *store.Commit) error {
	h.mu.Lock()
	if h.killed {
		h.mu.Unlock()
		return errKilled
	}
	for name := range c.Heads {
		if name[0] == 'i' && c.If[name] == nil {
			h.heads[name] = true
		}
	}
	h.mu.Unlock()
	return h.Memory.Commit(ctx, c)
}
