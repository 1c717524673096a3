package backendtest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
)

// Fault is what happens to a call of a Faulty.
type Fault int

// Faults. All but None return ErrFault, except that Duplicate does so only if the second call
// fails, and Hang returns the context's error.
const (
	None        Fault = iota
	LoseRequest       // the call is not executed
	LoseReply         // the call is executed, but its reply is lost
	Duplicate         // the call is executed twice
	// a Commit is executed by the next call of Arrive, after any calls in between
	Late
	Hang // the call is not executed, and returns when the context ends
)

// ErrFault is the error of a faulty call.
var ErrFault = errors.New("backendtest: the connection was cut")

// Faulty is a Store that fails like networks do.
type Faulty struct {
	backend.Store
	// Next chooses the fault of the next call; nil means none. It may block and may be called
	// concurrently.
	Next func() Fault

	mu   sync.Mutex
	late []*backend.Commit
}

func (f *Faulty) next() Fault {
	if f.Next == nil {
		return None
	}
	return f.Next()
}

// fail returns the error of a reading call.
func (f *Faulty) fail(ctx context.Context) error {
	switch f.next() {
	case None, Duplicate:
		return nil
	case Hang:
		<-ctx.Done()
		return ctx.Err()
	}
	return ErrFault
}

// Heads implements backend.Store.
func (f *Faulty) Heads(ctx context.Context) (map[string]backend.Head, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return f.Store.Heads(ctx)
}

// Get implements backend.Store.
func (f *Faulty) Get(ctx context.Context, keys []backend.Key) ([][]byte, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, keys)
}

// Commit implements backend.Store.
func (f *Faulty) Commit(ctx context.Context, c *backend.Commit) error {
	switch f.next() {
	case LoseRequest:
		return ErrFault
	case Hang:
		<-ctx.Done()
		return ctx.Err()
	case LoseReply:
		f.Store.Commit(ctx, c)
		return ErrFault
	case Duplicate:
		if err := f.Store.Commit(ctx, c); err != nil {
			return err
		}
		return f.Store.Commit(ctx, c)
	case Late:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.late = append(f.late, cloneCommit(c))
		return ErrFault
	}
	return f.Store.Commit(ctx, c)
}

// Arrive executes the late calls. Their replies are lost.
func (f *Faulty) Arrive(ctx context.Context) {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	for _, c := range late {
		f.Store.Commit(ctx, c)
	}
}

// past records what was put into a store. With it, any store can be made to lose data, or to become
// a replica that lacks the latest data.
type past struct {
	mu   sync.Mutex
	keys map[backend.Key]bool
}

// witness is a Store that reports what it puts to a past.
type witness struct {
	backend.Store
	*past
}

func (w witness) Commit(ctx context.Context, c *backend.Commit) error {
	w.mu.Lock()
	for k := range c.Parts {
		w.keys[k] = true
	}
	w.mu.Unlock()
	return w.Store.Commit(ctx, c)
}

func (p *past) all() []backend.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.keys))
}

// state returns a commit that puts everything that the store contains now.
func (p *past) state(ctx context.Context, s backend.Store) (*backend.Commit, error) {
	c := &backend.Commit{Heads: make(map[string][]byte), Parts: make(map[backend.Key][]byte)}
	heads, err := s.Heads(ctx)
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

// lose removes everything except what a former state contained.
func (p *past) lose(ctx context.Context, s backend.Store, but *backend.Commit) error {
	now, err := p.state(ctx, s)
	if err != nil {
		return err
	}
	nothing := &backend.Commit{Heads: make(map[string][]byte)}
	for name := range now.Heads {
		nothing.Heads[name] = nil
	}
	groups := make(map[string]bool)
	for _, k := range p.all() {
		groups[k.Group] = true
	}
	nothing.Drop = slices.Collect(maps.Keys(groups))
	if err := s.Commit(ctx, nothing); err != nil || but == nil {
		return err
	}
	return s.Commit(ctx, but)
}

func cloneCommit(c *backend.Commit) *backend.Commit {
	d := &backend.Commit{Drop: slices.Clone(c.Drop), If: maps.Clone(c.If), Heads: maps.Clone(c.Heads), Parts: maps.Clone(c.Parts)}
	for _, m := range []map[string][]byte{d.If, d.Heads} {
		for k, v := range m {
			m[k] = slices.Clone(v)
		}
	}
	for k, v := range d.Parts {
		d.Parts[k] = slices.Clone(v)
	}
	return d
}
