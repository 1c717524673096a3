package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// refresh is what a page needs: publish, read what others have published, add up.
func (s *Syncer) refresh(ctx context.Context) error {
	if err := s.publish(ctx); err != nil {
		return err
	}
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
	if s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil {
		return errLost
	}
	return nil
}

// pullSize is about how much is read at once. While a store answers, its other users wait.
const pullSize = 256 << 10

// fetched is a part that was read.
type fetched struct {
	c *contributor
	n uint32
	chunk
}

// fetch reads the parts that contributors should have by want and that are not known yet, and gives them to take,
// all of a chunk at once, while the next ones are under way. If some are other than they should be, it goes
// on with the rest and returns ErrConflict.
func (s *Syncer) fetch(ctx context.Context, list []*contributor, want []chunkSeqs, filter func(uint32) bool, take func([]fetched) error) error {
	var all []fetched
	for i, c := range list {
		for n, seq := range want[i] {
			if (filter == nil || filter(n)) && c.chunks[n].seq != seq {
				all = append(all, fetched{c, n, chunk{seq: seq}})
			}
		}
	}
	slices.SortFunc(all, func(a, b fetched) int { return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.c.id, b.c.id)) })
	var conflict error
	for next := s.startGet(ctx, &all); next != nil; {
		parts, err := next.wait()
		if err != nil {
			return err
		}
		now := next
		next = s.startGet(ctx, &all)
		found, err := now.match(parts)
		if err != nil {
			conflict = err
		}
		if !errors.Is(err, errFormat) {
			err = take(found)
		}
		if err != nil {
			if next != nil {
				next.wait()
			}
			return err
		}
	}
	return conflict
}

// question is a Get under way.
type request struct {
	wanted []fetched
	parts  [][]byte
	err    error
	done   chan struct{}
}

// ask begins to read the first of all, and takes these from it.
func (s *Syncer) startGet(ctx context.Context, all *[]fetched) *request {
	n, size := 0, 0
	for list := *all; n < len(list) && (size < pullSize || list[n].n == list[n-1].n); n++ {
		size += 256 // and what such a part had the last time
		if known := list[n].c.chunks[list[n].n]; known.data != nil {
			size += len(known.data)
		} else {
			size += partSize
		}
	}
	if n == 0 {
		return nil
	}
	q := &request{wanted: (*all)[:n], done: make(chan struct{})}
	*all = (*all)[n:]
	keys := make([]store.Key, n)
	for i, f := range q.wanted {
		keys[i] = partKey(f.c.group(), f.n)
	}
	go func() {
		defer close(q.done)
		q.parts, q.err = s.store.Get(ctx, keys)
	}()
	return q
}

func (q *request) wait() ([][]byte, error) {
	<-q.done
	if q.err == nil && len(q.parts) != len(q.wanted) {
		return nil, fmt.Errorf("syncer: the store has answered %d parts for %d keys", len(q.parts), len(q.wanted))
	}
	return q.parts, q.err
}

// match returns the parts that are what they should be; and ErrConflict unless all are.
func (q *request) match(parts [][]byte) (found []fetched, err error) {
	found = q.wanted[:0]
	for i, f := range q.wanted {
		if parts[i] == nil {
			err = store.ErrConflict // folded and removed meanwhile
			continue
		}
		c, bad := parsePart(parts[i])
		if bad != nil {
			return nil, bad
		}
		if c.seq != f.seq {
			err = store.ErrConflict // written again meanwhile
			continue
		}
		f.chunk = c
		found = append(found, f)
	}
	return found, err
}

// fetchOthers reads what other instances have published. With m, it makes pages show it.
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

// fetchAll reads all that an instance has.
func (s *Syncer) fetchAll(ctx context.Context, c *contributor) error {
	return s.fetch(ctx, []*contributor{c}, []chunkSeqs{c.head.chunks}, nil, func(found []fetched) error {
		for _, f := range found {
			c.chunks[f.n] = f.chunk
			s.dirty[f.n] = true
		}
		return nil
	})
}

// fetchBase reads the base, and returns which parts have changed.
func (s *Syncer) fetchBase(ctx context.Context, want chunkSeqs) (changed []uint32, err error) {
	var all []fetched // which are of one version
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

// prune forgets the parts that a contributor has no more.
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

// instancePart is what an instance has of a series with parts.
type instancePart struct {
	row    *row
	number int
	id     uint64
	words  []uint64
}

// mergeAll makes pages show what contributors have.
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

// newMerger begins to add up what the instances have that are known now.
func (s *Syncer) newMerger() *merger {
	s.updateLiveness()
	m := &merger{instances: append(slices.Collect(maps.Values(s.others)), &s.self)}
	if now := s.clock.Load(); now != nil {
		m.now = (*now)()
	}
	// Sums of floats depend on the order, and must not go back: it is the same for all processes, and the oldest, who
	// mostly are the first to be folded, come next to the base.
	slices.SortFunc(m.instances, func(a, b *contributor) int {
		return cmp.Or(cmp.Compare(a.head.join, b.head.join), cmp.Compare(a.id, b.id))
	})
	return m
}

// updateLiveness brings liveness up to date.
func (s *Syncer) updateLiveness() {
	ids := make(map[int]uint64)
	note := func(c *contributor) {
		n := int(c.head.number)
		ids[n] += 0
		if c.live && (ids[n] == 0 || c.id < ids[n]) { // should two have one number after a failover
			ids[n] = c.id
		}
	}
	note(&s.self)
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
			// Buckets, their keys and their snapshots only make sense together, so a page that is
			// reading them keeps what it has. There may also be more of them now.
			r.words = make(backend.Words, len(words))
			f.show(r.words, words)
			s.index.Replace(f.place, backend.Series{Labels: r.labels, Words: r.words})
		}
	}
	s.mergeParts(m)
	return nil
}

// addChunk adds a contributor's words to those in m. mu is held.
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
		if r.life > row.life { // of a deletion that the store has forgotten
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
		case m.words(i) == nil:
			m.set(i, r.words)
		default:
			m.set(i, f.merge(m.words(i), r.words))
		}
	}
}

// mergeParts makes pages show what each instance has. mu is held.
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
		sl.owner.Store(0) // while words are mixed
		r.fam.show(sl.words, p.words)
		sl.owner.Store(p.id)
		sl.life, sl.seen = r.life, true
	}
	for _, r := range m.rows {
		if !r.fam.parts {
			continue
		}
		for number, sl := range r.slots {
			// What the dead had does not count, but is not deleted.
			if !sl.seen && (sl.life < r.life || sl.owner.Load() == s.numbers[number].ID.Load()) {
				r.fam.def.Seal(sl.words)
			}
			sl.seen = false
		}
	}
}
