package syncer

import (
	"context"
	"fmt"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// NewManual returns a Syncer without a background goroutine.
func NewManual(st store.Store, o store.Options, now func() time.Time) *Syncer {
	return newSingle(st, options{Options: o, manual: true, now: now})
}

// NewSeeded is NewManual with a source of random numbers.
func NewSeeded(st store.Store, o store.Options, now func() time.Time, random func() uint64) *Syncer {
	s := newSingle(st, options{Options: o, manual: true, now: now, random: random})
	s.checkGroups()
	return s
}

// SetPiece sets the approximate size of a commit.
func (s *Syncer) SetPiece(n int) { s.piece = n }

// Step is one round of the background goroutine.
func (s *Syncer) Step(ctx context.Context) error {
	return s.exclusive(ctx, func(ctx context.Context) error {
		if err := s.publish(ctx); err != nil {
			return err
		}
		return s.maintain(ctx)
	})
}

func (s *Syncer) Publish(ctx context.Context) error { return s.exclusive(ctx, s.publish) }
func (s *Syncer) Refresh(ctx context.Context) error { return s.exclusive(ctx, s.refresh) }

// Maintain is the part of Step that folds and restores.
func (s *Syncer) Maintain(ctx context.Context) error { return s.exclusive(ctx, s.maintain) }

// Joined returns the join number of this instance; 0 if it knows none.
func (s *Syncer) Joined() uint64 { return s.self.head.join }

// Listed returns how many series the directory has.
func (s *Syncer) Listed() int { return s.dir.listed() }

// Disguise gives a family a schema that no version can parse.
func (s *Syncer) Disguise(def *backend.Family) {
	f := s.known[def]
	delete(s.schemas, f.schema)
	f.schema = "later " + f.schema
	s.schemas[f.schema] = f
}

// Based returns how many chunks the base has, and of how many series they have words, deleted ones
// included.
func (s *Syncer) Based() (chunks, series int) {
	for n, c := range s.base.chunks {
		_, all, _ := s.countStale(n, c.data)
		series += all
	}
	return len(s.base.chunks), series
}

// Waiting returns how many series wait for a number, and how many are in lists of such series;
// Ending returns the same for deletions that are to be published.
func (s *Syncer) Waiting() (n, listed int) {
	w := &s.waiting
	return w.n, len(w.added) + len(w.sorted) + len(w.blocked)
}

func (s *Syncer) Ending() (n, listed int) {
	e := &s.endings
	return e.n, len(e.list) + len(e.unnumbered)
}

// Dump describes the known state of the store.
func (s *Syncer) Dump() (lines []string) {
	one := func(what string, h instanceHead, list []entry) {
		line := fmt.Sprintf("  %s seq %d number %d join %d variants %v:", what, h.seq, h.number, h.join, h.variants)
		for _, e := range list {
			line += fmt.Sprintf(" %s{%s}=%v", e.row.fam.def.Name, e.row.labels, e.words)
		}
		lines = append(lines, line)
	}
	lines = append(lines, fmt.Sprintf("  epoch %x, base version %d, folds %v, found %d, recovering %v, directory %d", s.meta.epoch, s.baseHead.version, s.baseHead.folds, len(s.found), s.meta.recovering, s.dir.version))
	one("base", instanceHead{}, s.entries(&s.base))
	one(fmt.Sprintf("self %x", s.self.id), s.self.head, s.entries(&s.self))
	for _, c := range s.others {
		one(fmt.Sprintf("other %x live %v", c.id, c.live), c.head, s.entries(c))
	}
	for id, o := range s.orphans {
		one(fmt.Sprintf("orphan %x", id), o.head, o.entries)
	}
	if o := s.baseOrphan; o != nil {
		one(fmt.Sprintf("base orphan version %d folds %v", o.base.version, o.base.folds), o.head, o.entries)
	}
	return lines
}

var ShardOf = shardOf

// Is reports whether a head is that of this instance.
func (s *Syncer) Is(name string) bool { return name == livePfx+instanceName(s.self.id) }
