package syncer

import (
	"cmp"
	"context"
	"errors"

	"github.com/gotheus/gotheus/store"
)

// contact is the first contact with the store, which a bind waits for.
type contact struct {
	done chan struct{} // closed when err is set
	err  error
}

// makeContact reads one head at once, so that a bind learns whether the store refuses. Nothing else
// depends on the outcome. It does not hold op: a store that hangs keeps nothing else waiting.
func (s *Syncer) makeContact(ctx context.Context) {
	defer s.wg.Done()
	defer close(s.contact.done)
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	_, s.contact.err = s.store.Heads(ctx, []string{headMeta})
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
