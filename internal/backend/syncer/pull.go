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
)

// refresh brings the page up to date: it publishes, reads what other instances have published, and
// merges.
func (s *Syncer) refresh(ctx context.Context) error {
	for range rounds {
		if err := s.publish(ctx); err != nil {
			return err
		}
		if err := s.pull(ctx); err != nil || !s.behind {
			return err
		}
	}
	return errLost
}

// errUnsettled means that another server answers than before, and that some processes may not have
// restored yet what it lacks.
var errUnsettled = errors.New("syncer: another server has taken over, which may lack what pages have shown: waiting for all processes to restore it")

// pull reads what other instances have published, and merges.
func (s *Syncer) pull(ctx context.Context) error {
	complete := false
	err := s.again(func() error {
		err := s.readAllOnce(ctx)
		if err == nil {
			m := s.newMerger()
			if err = s.fetchOthers(ctx, nil, m); err == nil {
				err = s.mergeAll(m)
			}
			if err == nil {
				complete, err = s.checkRosters(ctx)
			}
		}
		return err
	})
	if err != nil {
		s.current = false
		return err
	}
	s.changes.Add(1)
	switch {
	case s.behind:
		return nil // refresh publishes again
	case s.restoring() || !complete:
		return errLost
	case s.meta.settling && s.metaAge < s.opt.Alive*3/2:
		// Noticing takes alive/4, those who know more are waited for no longer than half
		// of alive after that, and restoring comes with the next round.
		return errUnsettled
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
			s.takeChunk(f) // what is damaged is left out
			if m != nil && f.n != inlinePart && (i+1 == len(found) || found[i+1].n != f.n) {
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
	s.countDamaged()
	for _, c := range list {
		s.prune(c, c.head.chunks)
		if filter == nil && c.fullHead.seq != c.head.seq {
			c.fullHead, c.fullChunks, c.former = c.head, maps.Clone(c.chunks), nil
			c.older, c.partial = nil, len(c.damaged) > 0
		}
	}
	return nil
}

// fetchAll reads all words of instances.
func (s *Syncer) fetchAll(ctx context.Context, list ...*contributor) error {
	var want []chunkSeqs
	for _, c := range list {
		want = append(want, c.head.chunks)
	}
	err := s.fetch(ctx, list, want, nil, func(found []fetched) error {
		for _, f := range found {
			s.takeChunk(f)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range list {
		s.prune(c, c.head.chunks)
	}
	return nil
}

// fetchBase reads the base.
func (s *Syncer) fetchBase(ctx context.Context, want chunkSeqs) error {
	var all []fetched // applied together, since they belong to one version
	err := s.fetch(ctx, []*contributor{&s.base}, []chunkSeqs{want}, nil, func(found []fetched) error {
		for _, f := range found {
			if f.bad == nil {
				f.bad = s.checkChunk(f.n, f.chunk)
			}
			if f.bad != nil { // which is like having lost it
				s.reportInvalid(fmt.Errorf("part %d of %s: %w: it is taken for lost", f.n, s.base.group(), f.bad))
				return s.missing(ctx, partKey(s.base.group(), f.n), f.seq)
			}
		}
		all = append(all, found...)
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range all {
		s.base.chunks[f.n] = f.chunk
		s.dirty[f.n] = true
	}
	s.prune(&s.base, want)
	return nil
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
	s.resolveLoose()
	for _, n := range slices.Sorted(maps.Keys(s.dirty)) {
		if err := s.mergeDirty(m, n); err != nil {
			return err
		}
	}
	return s.mergeLoose(m)
}

func (s *Syncer) mergeDirty(m *merger, n uint32) error {
	s.mu.LockLast()
	rows := s.dir.chunk(n)
	s.mu.Unlock()
	err := s.mergeRows(m, rows, func() error { return s.addInstances(m, n) })
	if err == nil {
		delete(s.dirty, n)
	}
	return err
}

// newMerger returns a merger of the instances known now.
func (s *Syncer) newMerger() *merger {
	s.updateLiveness()
	s.resolveLoose()
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
	m.units = s.units(m.instances)
	return m
}

// updateLiveness updates which instances are live, and their numbers.
func (s *Syncer) updateLiveness() {
	var all []*contributor
	if s.self.raw != nil {
		all = append(all, &s.self)
	}
	for _, c := range s.others {
		all = append(all, c)
	}
	ids := assignNumbers(all)
	s.mu.LockLast()
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

// mergeRows merges the words of some series: what add adds, and what instances have published
// without numbers.
func (s *Syncer) mergeRows(m *merger, rows []*row, add func() error) error {
	s.mu.LockLast()
	for i, r := range rows {
		m.unshown[i] = r == nil || r.gone || r.invalid || r.fam.place == nil
	}
	s.mu.Unlock()
	// The rest of the directory only changes while op is held. What is deleted meanwhile is
	// merged in vain.
	m.begin(rows)
	if add != nil {
		if err := add(); err != nil {
			return err
		}
	}
	s.addLoose(m)
	m.round()
	for i, r := range rows {
		m.made[i] = nil
		if r != nil && !m.unshown[i] && !r.fam.parts {
			m.make(i, r)
		}
	}
	s.mu.LockLast()
	defer s.mu.Unlock()
	for i, r := range m.rows {
		if r == nil || r.gone || r.fam.place == nil || r.fam.parts {
			continue
		}
		f := r.fam
		words := m.words(i)
		if words == nil {
			s.hide(r)
			continue
		}
		switch {
		case r.words == nil:
			r.words = m.made[i]
			if row := (backend.Series{Labels: r.labels, Words: r.words}); f.blocks {
				s.index.Replace(f.place, row)
			} else {
				s.index.Add(f.place, row)
			}
		case !f.blocks:
			f.show(r.words, words)
		case m.made[i] != nil:
			r.words = m.made[i]
			s.index.Replace(f.place, backend.Series{Labels: r.labels, Words: r.words})
		}
	}
	s.mergeParts(m)
	return nil
}

// make makes the words that pages read of a series, if it needs new ones. Series that the program
// makes do not wait for that.
func (m *merger) make(i int, r *row) {
	words, f := m.words(i), r.fam
	switch {
	case words == nil:
		return
	case r.words == nil && f.shared:
		m.made[i] = make(backend.Words, f.def.Words())
	case r.words == nil, f.blocks && !same(words, r.words):
		// Buckets, keys and snapshots are only consistent together, and their number may
		// have grown, so new words replace the old ones. A page that is being written keeps
		// reading the latter.
		m.made[i] = make(backend.Words, len(words))
	default:
		return
	}
	f.show(m.made[i], words)
}

// addChunk merges a contributor's words into m.
func (s *Syncer) addChunk(m *merger, c *contributor, n uint32) error {
	ch, ok := c.chunks[n]
	if !ok {
		return nil
	}
	r := newChunkReader(ch.data, n, s.scratch)
	defer func() { s.scratch = r.buf }()
	for {
		m.addRuns(&r, &s.dir)
		ok, err := r.read(&s.dir)
		if !ok {
			return err
		}
		s.addWords(m, int(r.id%chunkSize), r.row, c, r.words, r.low)
	}
}

// addWords adds a contributor's words of one series.
func (s *Syncer) addWords(m *merger, i int, row *row, c *contributor, words, low []uint64) {
	f := row.fam
	if m.unshown[i] {
		return
	}
	if f.windows && !m.now.IsZero() {
		f.ignoreLater(words, m.now)
	}
	switch {
	case f.parts:
		if c.id != 0 && c.live && s.numbers[c.number].ID.Load() == c.id {
			m.parts = append(m.parts, instancePart{row, c.number, c.id, slices.Clone(words)})
		}
	case f.exemplars:
		all := liveWords(m.words(i))
		if all == nil {
			all = make(backend.Words, len(words))
		}
		if err := f.def.MergeExemplars(all, liveWords(words)); err != nil {
			s.reportInvalid(fmt.Errorf("%s: %w", f.def.Name, err))
		}
		m.set(i, plainWords(all))
	default:
		m.add(i, words, low)
	}
}

// mergeParts shows what each instance has. mu is held.
func (s *Syncer) mergeParts(m *merger) {
	added := make(map[*row][]backend.Part)
	for i := range m.parts {
		p := &m.parts[i]
		r := p.row
		if r.gone { // meanwhile
			continue
		}
		sl := r.seats[p.number]
		if sl == nil {
			if r.seats == nil {
				r.seats = make(map[int]*seat)
			}
			sl = &seat{words: make(backend.Words, r.fam.def.Words())}
			r.seats[p.number] = sl
			added[r] = append(added[r], backend.Part{Words: sl.words, Instance: s.numbers[p.number], Owner: &sl.owner})
		}
		sl.owner.Store(0) // hides the part while its words change
		r.fam.show(sl.words, p.words)
		sl.seen = true
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
			added[r] = append(added[r], backend.Part{Words: r.own.words, Instance: s.numbers[p.number], Owner: sl.self})
		}
		sl.self.Store(p.id)
	}
	for r, parts := range added { // at once: there may be thousands of a series
		s.index.AddPart(r.fam.place, r.labels, parts...)
	}
	for _, r := range m.rows {
		if r == nil || r.gone || !r.fam.parts {
			continue
		}
		for number, sl := range r.seats {
			// Parts of dead instances do not count, but they are not deleted either.
			if !sl.seen && sl.owner.Load() == s.numbers[number].ID.Load() {
				r.fam.def.Seal(sl.words)
			}
			sl.seen = false
		}
	}
}
