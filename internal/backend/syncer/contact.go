package syncer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/gotheus/gotheus/store"
)

// contact is the first contact with the store, which a bind waits for.
type contact struct {
	done  chan struct{} // closed when err is set
	err   error
	names []string
	heads atomic.Pointer[map[string]store.Head] // the answer, until it is used
}

// makeContact reads the common heads at once, so that a bind learns whether the store refuses. It
// does not hold op: a store that hangs keeps nothing else waiting. If a process leaves soon, it
// need not read them again.
func (s *Syncer) makeContact(ctx context.Context) {
	defer s.wg.Done()
	defer close(s.contact.done)
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	heads, err := s.store.Heads(ctx, s.contact.names)
	if s.contact.err = err; err == nil {
		s.contact.heads.Store(&heads)
	}
}

// commonHeads returns the common heads and this process' own: those of the first contact, if
// nothing was read since.
func (s *Syncer) commonHeads(ctx context.Context, own string) (map[string]store.Head, error) {
	if first := s.contact.heads.Swap(nil); first != nil && s.metaRaw == nil {
		return *first, nil
	}
	return s.store.Heads(ctx, append(slices.Clone(commonHeads), own))
}

// FirstContact implements backend.Contacter.
func (s *Syncer) FirstContact(ctx context.Context) error {
	select {
	case <-s.contact.done:
		return s.contact.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// FirstContact implements backend.Contacter: it returns what the first store has answered that
// refuses, or else the first error.
func (b *Sharded) FirstContact(ctx context.Context) error {
	var first error
	for _, s := range b.shards {
		err := s.FirstContact(ctx)
		if errors.Is(err, store.ErrRefused) {
			return err
		}
		first = cmp.Or(first, err)
	}
	return first
}
