package storetest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/gotheus/gotheus/store"
)

// past remembers which parts were put into a store, so that the store can be made to lose data or
// to go back to an older state, like a replica without the last commits.
type past struct {
	mu   sync.Mutex
	keys map[store.Key]bool
}

// witness is a Store that records in a past what it puts.
type witness struct {
	store.Store
	*past
}

func (w witness) Commit(ctx context.Context, c *store.Commit) error {
	w.mu.Lock()
	for k := range c.Parts {
		w.keys[k] = true
	}
	w.mu.Unlock()
	return w.Store.Commit(ctx, c)
}

func (p *past) all() []store.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.keys))
}

// state returns a commit that puts the present content of a store.
func (p *past) state(ctx context.Context, s store.Store) (*store.Commit, error) {
	c := &store.Commit{Heads: make(map[string][]byte), Parts: make(map[store.Key][]byte)}
	heads, err := s.Heads(ctx, nil)
	if err != nil {
		return nil, err
	}
	for name, h := range heads {
		c.Heads[name] = h.Value
	}
	keys := p.all()
	parts, err := s.Get(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i, k := range keys {
		if parts[i] != nil {
			c.Parts[k] = parts[i]
		}
	}
	return c, nil
}

// lose removes everything from a store, and then puts back the state kept, if any.
func (p *past) lose(ctx context.Context, s store.Store, kept *store.Commit) error {
	now, err := p.state(ctx, s)
	if err != nil {
		return err
	}
	nothing := &store.Commit{Heads: make(map[string][]byte)}
	for name := range now.Heads {
		nothing.Heads[name] = nil
	}
	groups := make(map[string]bool)
	for _, k := range p.all() {
		groups[k.Group] = true
	}
	nothing.Drop = slices.Collect(maps.Keys(groups))
	if err := s.Commit(ctx, nothing); err != nil || kept == nil {
		return err
	}
	return s.Commit(ctx, kept)
}
