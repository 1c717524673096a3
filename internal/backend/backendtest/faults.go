package backendtest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/gotheus/gotheus/store"
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
	store.Store
	// Next chooses the fault of the next call; nil means none. It may block and may be called
	// concurrently.
	Next func() Fault

	mu   sync.Mutex
	late []*store.Commit
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

// Heads implements store.Store.
func (f *Faulty) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return f.Store.Heads(ctx, names)
}

// Get implements store.Store.
func (f *Faulty) Get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	if err := f.fail(ctx); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, keys)
}

// Commit implements store.Store.
func (f *Faulty) Commit(ctx context.Context, c *store.Commit) error {
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

func cloneCommit(c *store.Commit) *store.Commit {
	d := &store.Commit{Drop: slices.Clone(c.Drop), If: maps.Clone(c.If), Heads: maps.Clone(c.Heads), Parts: maps.Clone(c.Parts)}
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
