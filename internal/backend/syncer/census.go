package syncer

import (
	"context"
	"errors"
	"math"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// changed records that a series comes into being. mu is held.
func (s *Syncer) changed(labels string) { s.changes.Add(uint64(backend.Weight(labels))) }

// Changes implements backend.Census.
func (s *Syncer) Changes() uint64 { return s.changes.Load() }

// Most implements backend.Census. Existing looks only at one family, so no bound is worthwhile.
func (s *Syncer) Most() int64 { return math.MaxInt64 }

// Existing implements backend.Census: the series of this process, and those in the directory as it
// was last read.
func (s *Syncer) Existing(def *backend.Family) (labels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.schemas[def.Schema()]
	if f == nil {
		return nil
	}
	seen := 0
	for _, r := range f.rows.All() {
		if s.exists(r) {
			labels = append(labels, r.labels)
		}
		// Lets other calls in, see Delete; Changes tells of what they add.
		if seen++; seen%stretch == 0 {
			s.mu.Unlock()
			s.mu.LockLast()
		}
	}
	return labels
}

// Exists implements backend.Backend.
func (s *Syncer) Exists(def *backend.Family, labels string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.schemas[def.Schema()]
	if f == nil {
		return false
	}
	r := f.rows.Get(labels)
	return r != nil && s.exists(r)
}

// exists reports whether a series exists, as far as known. mu is held.
func (s *Syncer) exists(r *row) bool {
	switch {
	case r.invalid || r.fam.def == nil || r.gone:
		return false
	case r.own != nil && !r.fam.def.Sealed(r.own.words):
		return true
	case r.fam.parts: // those of the dead do not count
		for number, st := range r.seats {
			if st.owner.Load() == s.numbers[number].ID.Load() && !r.fam.def.Sealed(st.words) {
				return true
			}
		}
		return false
	case r.id != noID:
		return true
	}
	return r.words != nil && !r.fam.def.Sealed(r.words)
}

// hasParts reports whether the directory has label sets of families with parts.
func (s *Syncer) hasParts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.dir.families {
		if f.parts && (f.rows.Len() > 1 || f.rows.Len() > 0 && f.rows.Get("") == nil) {
			return true
		}
	}
	return false
}

// Learn implements backend.Learner: it reads the directory, which has all series that exist. Unlike
// Sync, it publishes nothing. It only reads what series are worth if some consist of parts: those
// of dead instances do not count.
func (s *Syncer) Learn(ctx context.Context) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer s.wg.Done()
		defer close(done)
		// An error is one of the next publication, too.
		s.exclusive(s.open, func(ctx context.Context) error {
			err := s.readCommon(ctx)
			if err == nil {
				err = s.readDirectory(ctx)
			}
			if err == nil && s.hasParts() {
				err = s.pull(ctx)
			}
			if errors.Is(err, store.ErrConflict) {
				s.current = false
			}
			return err
		})
		s.mu.Lock()
		s.changes.Add(1)
		s.mu.Unlock()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Changes implements backend.Census.
func (b *Sharded) Changes() (n uint64) {
	for _, s := range b.shards {
		n += s.Changes()
	}
	return n
}

// Most implements backend.Census.
func (b *Sharded) Most() int64 { return math.MaxInt64 }

// Existing implements backend.Census.
func (b *Sharded) Existing(f *backend.Family) (labels []string) {
	for _, s := range b.shards {
		labels = append(labels, s.Existing(f)...)
	}
	return labels
}

// Exists implements backend.Backend.
func (b *Sharded) Exists(f *backend.Family, labels string) bool {
	return b.shards[shardOf(f, labels, len(b.shards))].Exists(f, labels)
}

// Learn implements backend.Learner.
func (b *Sharded) Learn(ctx context.Context) {
	b.each(ctx, func(s *Syncer, ctx context.Context) error {
		s.Learn(ctx)
		return nil
	})
}
