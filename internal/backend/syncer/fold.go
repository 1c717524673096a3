package syncer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

// retention is how many times Alive the words of a folded instance stay in the store: should the store go back to
// before the fold, or lose it, they are needed again.
const retention = 6

// An instance is folded after it was silent for one and a half times Alive, under the eyes of whoever does it. What
// the store has lost of one that does not come back is restored after a quarter: before anybody who does
// not know of it folds the rest.
func (s *Syncer) silence(c *contributor) time.Duration { return max(s.opt.Alive, c.alive()) * 3 / 2 }

func (s *Syncer) grace() time.Duration { return s.opt.Alive / 4 }

// maintain looks after the dead, and after what the store has lost.
func (s *Syncer) maintain(ctx context.Context) error {
	if err := s.readHeads(ctx); err != nil {
		return err
	}
	s.before = slices.DeleteFunc(s.before, func(c contributor) bool { return s.now().Sub(c.seenAt) > retention*s.opt.Alive })
	s.past = slices.DeleteFunc(s.past, func(o orphan) bool { return s.now().Sub(o.since) > retention*s.opt.Alive })
	for _, f := range []func(context.Context) error{s.restoreBase, s.restoreOrphans, s.recovered, s.checkDeletions, s.foldDead, s.forgetDead, s.forgetGenerations} {
		if err := f(ctx); err != nil {
			s.current = false
			if !errors.Is(err, store.ErrConflict) { // else somebody else was at it
				return err
			}
			return nil
		}
	}
	return nil
}

// foldDead folds the instances that have given no sign of life for as long as this one has watched.
func (s *Syncer) foldDead(ctx context.Context) error {
	if len(s.orphans) > 0 || s.baseOrphan != nil {
		return nil // the base may be about to be replaced
	}
	for _, c := range s.others {
		if c.live || s.now().Sub(c.seenAt) < s.silence(c) {
			continue
		}
		if err := s.fetchAll(ctx, c); err != nil {
			return err
		}
		s.prune(c, c.head.chunks)
		if err := s.fold(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// fold puts an instance's words into the base. All of c's words are known.
func (s *Syncer) fold(ctx context.Context, c *contributor) error {
	h := s.baseHead.next()
	h.stamp = max(h.stamp, c.head.stamp)
	h.folds = append(h.folds, fold{c.id, c.head.seq})
	h.folds = h.folds[max(0, len(h.folds)-maxFolds):]
	fresh := make(map[uint32]chunk)
	for n := range c.chunks {
		base, err := s.decode(n, &s.base)
		if err != nil {
			return err
		}
		words, err := s.decode(n, c)
		if err != nil {
			return err
		}
		changed := false
		for id, e := range words {
			f := e.row.fam
			switch old, ok := base[id]; {
			case f.def == nil:
				return nil // of a later version, which knows what to do
			case f.parts: // ends with the instance
			case !ok || old.life < e.life:
				base[id] = e
				changed = true
			case old.life == e.life && old.words == nil:
				base[id] = e
				changed = true
			case old.life == e.life:
				old.words = f.merge(old.words, e.words)
				base[id] = old
				changed = true
			}
		}
		if changed {
			fresh[n] = s.encode(n, base, h.version)
		}
	}
	commit := &store.Commit{
		If:    map[string][]byte{c.group(): c.raw},
		Heads: map[string][]byte{c.group(): nil, deadPfx + instanceName(c.id): c.raw},
	}
	if err := s.commitBase(ctx, commit, &h, fresh); err != nil {
		return err
	}
	s.setBase(h, commit.Heads[headBase], fresh)
	s.drop(c)
	return nil
}

// forgetDead removes what is no longer needed of the folded.
func (s *Syncer) forgetDead(ctx context.Context) error {
	if s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil {
		return nil
	}
	for id, h := range s.dead {
		if h.Age < retention*s.opt.Alive {
			continue
		}
		name := instanceName(id)
		err := s.commit(ctx, &store.Commit{
			If:    map[string][]byte{deadPfx + name: h.Value},
			Heads: map[string][]byte{deadPfx + name: nil},
			Drop:  []string{livePfx + name},
		})
		if err != nil {
			return err
		}
		delete(s.dead, id)
	}
	return nil
}

// leave is the last publication: what was counted passes to the base at once.
func (s *Syncer) leave(ctx context.Context) error {
	if err := s.publish(ctx); err != nil {
		return err
	}
	var err error
	for range rounds {
		if !s.current {
			id := s.self.id
			if err = s.readHeads(ctx); err != nil {
				return err
			}
			if s.self.id != id || s.self.raw == nil || len(s.self.chunks) == 0 && len(s.chunks) > 0 {
				// Folded, or lost, in this moment.
				if err = s.publish(ctx); err != nil {
					return err
				}
			}
		}
		if err = s.fold(ctx, &s.self); err == nil {
			s.departed = true
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if errors.Is(err, store.ErrConflict) {
		return nil // everything is in the store; others will fold it
	}
	return err
}

// decode returns the entries of a contributor's chunk by series.
func (s *Syncer) decode(n uint32, c *contributor) (map[uint32]entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[uint32]entry)
	r := newChunkReader(c.chunks[n].data, n, nil)
	for {
		ok, err := r.read(&s.dir)
		if !ok {
			return m, err
		}
		e := entry{row: r.row, life: r.life}
		if !r.empty {
			e.words = slices.Clone(r.words)
			if e.words == nil {
				e.words = []uint64{}
			}
		}
		m[r.id] = e
	}
}

func (s *Syncer) encode(n uint32, m map[uint32]entry, seq uint64) chunk {
	w := &s.writer
	w.begin(nil, n)
	for _, id := range slices.Sorted(maps.Keys(m)) {
		e := m[id]
		w.entry(id, e.life, e.row.fam, e.words)
	}
	return chunk{seq: seq, data: w.end()}
}

func (s *Syncer) encodeAll(entries []entry, seq uint64) map[uint32]chunk {
	byChunk := make(map[uint32]map[uint32]entry)
	for _, e := range entries {
		n := chunkOf(e.row.id)
		if byChunk[n] == nil {
			byChunk[n] = make(map[uint32]entry)
		}
		byChunk[n][e.row.id] = e
	}
	chunks := make(map[uint32]chunk)
	for n, m := range byChunk {
		chunks[n] = s.encode(n, m, seq)
	}
	return chunks
}
