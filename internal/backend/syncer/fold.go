package syncer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

// retention is how long the words of a folded instance stay in the store, as a multiple of Alive:
// they are needed again if the store goes back to a state before the fold.
const retention = 6

// silence is how long this process must itself have seen no change of an instance's head before it
// folds the instance. It is longer than grace, so that lost data is restored before a process that
// does not know of it folds the rest.
func (s *Syncer) silence(c *contributor) time.Duration { return max(s.opt.Alive, c.alive()) * 3 / 2 }

func (s *Syncer) grace() time.Duration { return s.opt.Alive / 4 }

// maintain restores what the store has lost, folds dead instances and removes what is no longer
// needed.
func (s *Syncer) maintain(ctx context.Context) error {
	if err := s.readHeads(ctx); err != nil {
		return err
	}
	s.before = slices.DeleteFunc(s.before, func(c contributor) bool { return s.now().Sub(c.seenAt) > retention*s.opt.Alive })
	s.past = slices.DeleteFunc(s.past, func(o orphan) bool { return s.now().Sub(o.since) > retention*s.opt.Alive })
	for _, f := range []func(context.Context) error{s.restoreBase, s.restoreOrphans, s.recovered, s.checkDeletions, s.foldDead, s.forgetDead, s.forgetGenerations} {
		if err := f(ctx); err != nil {
			s.current = false
			if !errors.Is(err, store.ErrConflict) { // else another process did it
				return err
			}
			return nil
		}
	}
	return nil
}

// foldDead folds the instances whose heads this process has seen unchanged for long enough.
func (s *Syncer) foldDead(ctx context.Context) error {
	if len(s.orphans) > 0 || s.baseOrphan != nil {
		return nil // the base may be replaced first
	}
	for _, id := range sorted(s.others) {
		c := s.others[id]
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

// fold adds an instance's words to the base. All words of c must have been read.
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
				return nil // left to processes of a later version
			case f.parts: // not kept beyond the instance
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

// forgetDead removes folded instances after the retention time.
func (s *Syncer) forgetDead(ctx context.Context) error {
	if s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil {
		return nil
	}
	for _, id := range sorted(s.dead) {
		h := s.dead[id]
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

// leave publishes for the last time and folds this instance into the base.
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
				// Folded or lost just now.
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
		return nil // everything is published; another process will fold it
	}
	return err
}

// decode returns the entries of a contributor's chunk, by number of the series.
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
