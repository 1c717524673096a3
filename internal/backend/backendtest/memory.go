package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gotheus/gotheus/store"
)

// Memory is a store.Store in the memory of the process: a reference implementation, and a store
// for tests that can lose its data. It is safe for concurrent use.
type Memory struct {
	// Now is the store's clock; nil means time.Now. It must not be changed while the store is
	// in use.
	Now func() time.Time

	mu    sync.Mutex
	state Snapshot
}

// Snapshot is a former state of a Memory.
type Snapshot struct {
	heads map[string]memoryHead
	parts map[store.Key][]byte
}

type memoryHead struct {
	value []byte
	put   time.Time
}

func (m *Memory) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// Heads implements store.Store.
func (m *Memory) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	heads := make(map[string]store.Head)
	for name, h := range m.state.heads {
		if names != nil && !slices.Contains(names, name) {
			continue
		}
		heads[name] = store.Head{Value: slices.Clone(h.value), Age: m.now().Sub(h.put)}
	}
	return heads, ctx.Err()
}

// Get implements store.Store.
func (m *Memory) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parts := make([][]byte, len(keys))
	for i, k := range keys {
		parts[i] = slices.Clone(m.state.parts[k])
	}
	return parts, ctx.Err()
}

// Commit implements store.Store.
func (m *Memory) Commit(ctx context.Context, c *store.Commit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for name, want := range c.If {
		h, ok := m.state.heads[name]
		if ok != (want != nil) || !bytes.Equal(h.value, want) {
			return fmt.Errorf("memory: head %s: %w", name, store.ErrConflict)
		}
	}
	if m.state.heads == nil {
		m.state = Snapshot{make(map[string]memoryHead), make(map[store.Key][]byte)}
	}
	for _, group := range c.Drop {
		maps.DeleteFunc(m.state.parts, func(k store.Key, _ []byte) bool { return k.Group == group })
	}
	for k, v := range c.Parts {
		m.state.parts[k] = bytes.Clone(v)
	}
	for name, v := range c.Heads {
		if v == nil {
			delete(m.state.heads, name)
		} else {
			m.state.heads[name] = memoryHead{slices.Clone(v), m.now()}
		}
	}
	return nil
}

// Close implements store.Store. The data stays available to other users.
func (m *Memory) Close() error { return nil }

// Snapshot returns the present state, like that of a replica that gets no more updates.
func (m *Memory) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Snapshot{maps.Clone(m.state.heads), maps.Clone(m.state.parts)}
}

// Restore sets the store back to a former state. The zero Snapshot loses everything.
func (m *Memory) Restore(s Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = Snapshot{maps.Clone(s.heads), maps.Clone(s.parts)}
}

// Size returns the total size of all names and values in bytes.
func (m *Memory) Size() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, h := range m.state.heads {
		n += len(name) + len(h.value)
	}
	for k, v := range m.state.parts {
		n += len(k.Group) + 4 + len(v)
	}
	return n
}
