package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// refresh brings the page up to date: it publishes, reads what other instances have published, and
// merges.
func (s *Syncer) refresh(ctx context.Context) error {
	if err := s.publish(ctx); err != nil {
		return err
	}
	return s.pull(ctx)
}

// pull reads what other instances have published, and merges.
func (s *Syncer) pull(ctx context.Context) error {
	var err error
	for range rounds {
		if err = s.readHeads(ctx); err == nil {
			m := s.newMerger()
			if err = s.fetchOthers(ctx, nil, m); err == nil {
				err = s.mergeAll(m)
			}
		}
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if err != nil {
		s.current = false
		return err
	}
	s.mu.Lock()
	for list, rows := range s.dir.rows {
		s.read[list] = len(rows)
	}
	s.changes.Add(1)
	s.mu.Unlock()
	if s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil {
		return errLost
	}
	return nil
}

// pullSize is the approximate size of one read, in bytes: while the store answers, its other users
// wait.
const pullSize = 256 << 10

// fetchOthers reads what other instances have published. If m is not nil, it also merges it into
// the page.
func (s *Syncer) fetchOthers(ctx context.Context, filter func(uint32) bool, m *merger) error {
	var list []*contributor
	var want []chunkSeqs
	for _, c := range s.others {
		list, want = append(list, c), append(want, c.head.chunks)
	}
	err := s.fetch(ctx, list, want, filter, func(found []fetched) error {
		for i, f := range found {
			f.c.chunks[f.n] = f.chunk
			s.dirty[f.n] = true
			if m != nil && (i+1 == len(found) || found[i+1].n != f.n) {
				if err := s.mergeDirty(m, f.n); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range list {
		s.prune(c, c.head.chunks)
		if filter == nil && c.fullHead.seq != c.head.seq {
			c.fullHead, c.fullChunks = c.head, maps.Clone(c.chunks)
		}
	}
	return nil
}

// fetchAll reads all words of an instance.
func (s *Syncer) fetchAll(ctx context.Context, c *contributor) error {
	return s.fetch(ctx, []*contributor{c}, []chunkSeqs{c.head.chunks}, nil, func(found []fetched) error {
		for _, f := range found {
			c.chunks[f.n] = f.chunk
			s.dirty[f.n] = true
		}
		return nil
	})
}

// fetchBase reads the base, and returns the numbers of the parts that have changed.
func (s *Syncer) fetchBase(ctx context.Context, want chunkSeqs) (changed []uint32, err error) {
	var all []fetched // applied together, since they belong to one version
	err = s.fetch(ctx, []*contributor{&s.base}, []chunkSeqs{want}, nil, func(found []fetched) error {
		all = append(all, found...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		s.base.chunks[f.n] = f.chunk
		s.dirty[f.n], s.suspect[f.n] = true, true
		changed = append(changed, f.n)
	}
	s.prune(&s.base, want)
	return changed, nil
}

// prune drops chunks that a contributor no longer has.
func (s *Syncer) prune(c *contributor, want chunkSeqs) {
	if len(c.chunks) == len(want) {
		return
	}
	for n := range c.chunks {
		if _, ok := want[n]; !ok {
			delete(c.chunks, n)
			s.dirty[n] = true
			if c.id == 0 {
				s.suspect[n] = true
			}
		}
	}
}

// instancePart is what one instance has of a series with parts.
type instancePart struct {
	row    *row
	number int
	id     uint64
	words  []uint64
}

// mergeAll merges all dirty chunks into the page.
func (s *Syncer) mergeAll(m *merger) error {
	for _, n := range slices.Sorted(maps.Keys(s.dirty)) {
		if err := s.mergeDirty(m, n); err != nil {
			return err
		}
	}
	return nil
}

func (s *Syncer) mergeDirty(m *merger, n uint32) error {
	err := s.mergeChunk(m, n)
	if err == nil {
		delete(s.dirty, n)
	}
	return err
}

// newMerger returns a merger of the instances known now.
func (s *Syncer) newMerger() *merger {
	s.updateLiveness()
	m := &merger{instances: append(slices.Collect(maps.Values(s.others)), &s.self)}
	if now := s.clock.Load(); now != nil {
		m.now = (*now)()
	}
	// What depends on the order, such as counts that reach their limit, is then the same in all
	// processes. The oldest instances come right after the base, since they are usually folded
	// first.
	slices.SortFunc(m.instances, func(a, b *contributor) int {
		return cmp.Or(cmp.Compare(a.head.join, b.head.join), cmp.Compare(a.id, b.id))
	})
	return m
}

// updateLiveness updates which instances are live.
func (s *Syncer) updateLiveness() {
	ids := make(map[int]uint64)
	note := func(c *contributor) {
		n := int(c.head.number)
		ids[n] += 0
		if c.live && (ids[n] == 0 || c.id < ids[n]) { // two may share one after a failover
			ids[n] = c.id
		}
	}
	if s.self.raw != nil {
		note(&s.self)
	}
	for _, c := range s.others {
		note(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range ids {
		if s.numbers[n] == nil {
			s.numbers[n] = &backend.Instance{Number: n}
		}
	}
	for n, instance := range s.numbers {
		instance.ID.Store(ids[n])
	}
	s.orderVariants()
}

func (s *Syncer) mergeChunk(m *merger, n uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.begin(s, n)
	if err := s.addChunk(m, &s.base, n); err != nil {
		return err
	}
	for _, c := range m.instances {
		if err := s.addChunk(m, c, n); err != nil {
			return err
		}
	}
	m.round()
	for i, r := range m.rows {
		f := r.fam
		if f.place == nil || f.parts {
			continue
		}
		words := m.words(i)
		if words == nil {
			s.hide(r)
			continue
		}
		switch {
		case r.words == nil:
			n := len(words)
			if f.shared {
				n = f.def.Words()
			}
			r.words = make(backend.Words, n)
			f.show(r.words, words)
			if row := (backend.Series{Labels: r.labels, Words: r.words}); f.blocks {
				s.index.Replace(f.place, row)
			} else {
				s.index.Add(f.place, row)
			}
		case !f.blocks:
			f.show(r.words, words)
		case !same(words, r.words):
			// Buckets, keys and snapshots are only consistent together, and their
			// number may have grown, so new words replace the old ones. A page that is
			// being written keeps reading the latter.
			r.words = make(backend.Words, len(words))
			f.show(r.words, words)
			s.index.Replace(f.place, backend.Series{Labels: r.labels, Words: r.words})
		}
	}
	s.mergeParts(m)
	return nil
}

// addChunk merges a contributor's words into m. mu is held.
func (s *Syncer) addChunk(m *merger, c *contributor, n uint32) error {
	ch, ok := c.chunks[n]
	if !ok {
		return nil
	}
	r := newChunkReader(ch.data, n, s.scratch)
	defer func() { s.scratch = r.buf }()
	for {
		m.addRuns(&r)
		ok, err := r.read(&s.dir)
		if !ok {
			return err
		}
		row, i := r.row, int(r.id%chunkSize)
		if r.life > row.life { // from a deletion that the store has lost
			s.setLife(row, r.life)
			s.suspect[n] = true
			m.forget(i)
		}
		f := row.fam
		if f.snapshots != nil && !r.empty && !m.now.IsZero() {
			f.ignoreLater(r.words, m.now)
		}
		switch {
		case r.empty || r.life < row.life || f.place == nil || row.invalid || s.isDeleted(row):
		case f.parts:
			if c.id != 0 && s.numbers[int(c.head.number)].ID.Load() == c.id {
				m.parts = append(m.parts, instancePart{row, int(c.head.number), c.id, slices.Clone(r.words)})
			}
		case f.exemplars:
			all := liveWords(m.words(i))
			if all == nil {
				all = make(backend.Words, len(r.words))
			}
			if err := f.def.MergeExemplars(all, liveWords(r.words)); err != nil {
				s.invalid = fmt.Errorf("%s: %w", f.def.Name, err)
			}
			m.set(i, plainWords(all))
		default:
			m.add(i, r.words, r.low)
		}
	}
}

// mergeParts shows what each instance has. mu is held.
func (s *Syncer) mergeParts(m *merger) {
	for i := range m.parts {
		p := &m.parts[i]
		r := p.row
		sl := r.slots[p.number]
		if sl == nil {
			if r.slots == nil {
				r.slots = make(map[int]*slot)
			}
			sl = &slot{words: make(backend.Words, r.fam.def.Words())}
			r.slots[p.number] = sl
			s.index.AddPart(r.fam.place, r.labels, backend.Part{Words: sl.words, Instance: s.numbers[p.number], Owner: &sl.owner})
		}
		sl.owner.Store(0) // hides the part while its words change
		r.fam.show(sl.words, p.words)
		sl.life, sl.seen = r.life, true
		if p.id != s.self.id || r.own == nil || r.own.alone == nil {
			if sl.self != nil { // another instance has the number now
				sl.self.Store(0)
			}
			sl.owner.Store(p.id)
			continue
		}
		r.own.alone.Store(0)
		if sl.self == nil {
			sl.self = new(atomic.Uint64)
			s.index.AddPart(r.fam.place, r.labels, backend.Part{Words: r.own.words, Instance: s.numbers[p.number], Owner: sl.self})
		}
		sl.self.Store(p.id)
	}
	for _, r := range m.rows {
		if !r.fam.parts {
			continue
		}
		for number, sl := range r.slots {
			// Parts of dead instances do not count, but they are not deleted either.
			if !sl.seen && (sl.life < r.life || sl.owner.Load() == s.numbers[number].ID.Load()) {
				r.fam.def.Seal(sl.words)
			}
			sl.seen = false
		}
	}
}
