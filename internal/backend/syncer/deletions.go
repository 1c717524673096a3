package syncer

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"time"
)

// A deletion frees the number of a series, in the directory. Words that were stored with an earlier
// version of the directory do not count from then on, and each process that learns of it ends its
// own words. A series that comes back gets another number.

// delete ends the life of a series for this process, and queues the deletion for publication. It
// reports whether the series counted. mu is held.
func (s *Syncer) delete(r *row) (counted bool) {
	shown := r.words != nil || len(r.seats) > 0
	counted = s.detach(r)
	if r.id != noID || shown {
		// Without a number, others may have published it, and will give it one.
		s.ending(r)
		s.awaitHolders(r)
	}
	s.looseChanged = true
	return counted
}

// wait is what the publication of a deletion waits for. Words without a number do not say which
// life of the series they are of: those that other instances had published before the deletion
// would be shown again after it. So they get the number first that is then freed, when their
// instances publish again, or are folded.
type wait struct {
	holders map[uint64]uint64 // seqs of these words, by instance
	end     time.Time         // at the latest
}

// holds reports whether w is for what c has published.
func (w *wait) holds(c *contributor) bool {
	if w == nil {
		return false
	}
	seq, ok := w.holders[c.id]
	return ok && seq == c.chunks[inlinePart].seq
}

// awaitHolders makes the publication of a deletion wait. mu is held.
func (s *Syncer) awaitHolders(r *row) {
	for _, l := range s.loose[r] {
		if l.c == &s.self {
			continue
		}
		if r.wait == nil {
			r.wait = &wait{make(map[uint64]uint64), s.now().Add(retention * s.opt.Alive)}
			s.awaiting = true
		}
		r.wait.holders[l.c.id] = l.seq
	}
}

// checkWaits looks which deletions need not wait any longer.
func (s *Syncer) checkWaits(ctx context.Context) error {
	s.mu.LockLast()
	awaiting := s.awaiting
	s.mu.Unlock()
	if !awaiting {
		return nil
	}
	if err := s.readAll(ctx); err != nil {
		return err
	}
	s.mu.LockLast()
	s.awaiting = false
	all := slices.AppendSeq(slices.Clone(s.endings.list), maps.Keys(s.endings.unnumbered))
	s.mu.Unlock()
	s.inStretches(all, func(r *row) {
		if !r.ending || r.wait == nil {
			return
		}
		done := s.leaving || s.now().After(r.wait.end)
		maps.DeleteFunc(r.wait.holders, func(id, seq uint64) bool {
			c := s.others[id]
			return done || c == nil || c.head.chunks[inlinePart] != seq
		})
		if len(r.wait.holders) == 0 {
			r.wait = nil
		}
		s.awaiting = s.awaiting || r.wait != nil
	})
	return nil
}

// detach ends a life of a series: it is not shown any more, and this process' words of it do not
// count. It reports whether any did. mu is held.
func (s *Syncer) detach(r *row) (counted bool) {
	f := r.fam
	counted = s.hide(r)
	if r.own != nil {
		counted = r.own.end(f) || counted
		if s.owned != nil && f.ownPlace != nil {
			s.owned.Remove(f.ownPlace, r.labels)
		}
		if r.id != noID {
			s.unlistOwn(r)
		}
	}
	if f.place != nil {
		s.index.Remove(f.place, r.labels)
	}
	if f.rows.Get(r.labels) == r {
		f.rows.Delete(r.labels)
	}
	r.gone = true
	s.unqueue(r)
	return counted
}

// deleted takes over that the directory has freed a series' number. mu is held.
func (s *Syncer) deleted(r *row) {
	if !r.gone {
		s.detach(r)
	}
	f := r.fam
	s.ended(r)
	s.dir.release(r)
	s.removed.add(f, r.labels, r.born, s.now())
	s.changes.Add(1)
	s.looseChanged = true
}

// hide removes a series from the page until a merge finds it again. It reports whether the series
// was on the page. mu is held.
func (s *Syncer) hide(r *row) (counted bool) {
	if r.words != nil {
		counted = r.fam.def.Seal(r.words)
		for i := range r.words {
			if r.fam.exemplars {
				r.words[i].Store(0)
			}
		}
	}
	for number, st := range r.seats {
		live := st.owner.Load() == s.numbers[number].ID.Load() // not of the dead
		counted = r.fam.def.Seal(st.words) && live || counted
	}
	return counted
}

// deletionsAtOnce is how many parts of the directory a deletion changes in one commit: less than a
// millisecond's work for the store.
const deletionsAtOnce = 64

// publishDeletes publishes this process's deletions, in commits of a bounded size.
func (s *Syncer) publishDeletes(ctx context.Context) error {
	list := s.numberedEndings()
	for len(list) > 0 {
		c := new(change)
		n := 0
		for ; n < len(list); n++ {
			r := list[n]
			chunk := chunkOf(r.id)
			if c.parts[chunk] == nil && (len(c.parts) >= deletionsAtOnce || c.size >= pieceSize && len(c.parts) > 0) {
				break
			}
			p := c.part(&s.dir, chunk)
			p[r.id%chunkSize] = slot{}
			c.size -= slotSize + len(r.labels)
			c.freed = append(c.freed, r)
		}
		list = list[n:]
		if err := s.commitDirectory(ctx, c); err != nil {
			return err
		}
	}
	s.dropEnded()
	return nil
}

// removals are the deletions of the recent past. If the store loses them, and a process that had
// not learnt of them restores the series, they are published again.
type removals struct {
	recent, older map[removal]birth
	since         time.Time // when recent was begun
}

type removal struct {
	fam    *family
	labels uint64 // hash of the label text
}

var labelSeed = maphash.MakeSeed()

func removalOf(f *family, labels string) removal {
	return removal{f, maphash.String(labelSeed, labels)}
}

// add records that a life of a series has ended.
func (m *removals) add(f *family, labels string, born birth, now time.Time) {
	if born == 0 { // it never had a number
		return
	}
	if m.recent == nil {
		m.recent, m.since = make(map[removal]birth), now
	}
	m.recent[removalOf(f, labels)] = born
}

// find returns the birth of the last life of a series that has ended, as far as remembered.
func (m *removals) find(f *family, labels string) birth {
	if len(m.recent) == 0 && len(m.older) == 0 {
		return 0
	}
	k := removalOf(f, labels)
	if b, ok := m.recent[k]; ok {
		return b
	}
	return m.older[k]
}

// forget forgets what is older than keep, at the latest when it is twice as old.
func (m *removals) forget(now time.Time, keep time.Duration) {
	if m.recent != nil && now.Sub(m.since) >= keep {
		m.recent, m.older = nil, m.recent
	} else if m.recent == nil && now.Sub(m.since) >= 2*keep {
		m.older = nil
	}
}
