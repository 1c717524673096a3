package syncer

import (
	"context"
	"math"

	"github.com/gotheus/gotheus/internal/backend"
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
	if f := s.schemas[def.Schema()]; f != nil {
		for l, r := range f.rows {
			if s.exists(r) {
				labels = append(labels, l)
			}
		}
	}
	return labels
}

// Exists implements backend.Census.
func (s *Syncer) Exists(def *backend.Family, labels string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.schemas[def.Schema()]
	return f != nil && f.rows[labels] != nil && s.exists(f.rows[labels])
}

// exists reports whether a series exists, as far as known. mu is held.
func (s *Syncer) exists(r *row) bool {
	switch {
	case r.invalid || r.fam.def == nil || r.gone:
		return false
	case r.id != noID || r.own != nil && !r.fam.def.Sealed(r.own.words):
		return true
	case r.words != nil:
		return !r.fam.def.Sealed(r.words)
	}
	return len(r.seats) > 0
}

// Learn implements backend.Learner. Unlike Sync, it publishes nothing.
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
		s.exclusive(s.open, s.pull) // an error is one of the next publication, too
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

// Exists implements backend.Census.
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
