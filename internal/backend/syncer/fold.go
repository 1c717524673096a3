package syncer

import (
	"context"
	"errors"
	"maps"
	"math"
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
	for _, f := range []func(context.Context) error{s.restoreBase, s.restoreOrphans, s.recovered, s.checkLives, s.foldDead, s.forgetDead, s.forgetGenerations} {
		if err := f(ctx); err != nil {
			s.sure = false
			if !errors.Is(err, store.ErrConflict) { // else somebody else was at it
				return err
			}
			return nil
		}
	}
	return nil
}

// recovered ends the time without pages after the store has lost everything.
func (s *Syncer) recovered(ctx context.Context) error {
	if !s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil || s.now().Sub(s.since) < s.opt.Alive*3/2 {
		return nil
	}
	m := s.meta
	m.recovering, m.recovered = false, true
	raw := m.encode()
	err := s.commit(ctx, &store.Commit{Heads: map[string][]byte{headMeta: raw}})
	if err == nil {
		s.meta, s.metaRaw = m, raw
	}
	return err
}

const everyChunk = ^uint32(0)

// checkLives looks for deletions that this process knows and the base does not: it was replaced by what somebody else
// knew. They are published again.
func (s *Syncer) checkLives(context.Context) error {
	if len(s.suspect) == 0 || s.meta.recovering || len(s.orphans) > 0 || s.baseOrphan != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer clear(s.suspect)
	if !s.deleted {
		return nil
	}
	if s.suspect[everyChunk] {
		delete(s.suspect, everyChunk)
		for list, rows := range s.dir.rows {
			for n := range (len(rows) + chunkSize - 1) / chunkSize {
				s.suspect[uint32(n)+uint32(list)*gaugeChunks] = true
			}
		}
		for _, f := range s.schemas { // or the directory has forgotten the whole series
			for _, r := range f.rows {
				if r.life > 0 && r.id == noID {
					s.listAgain(r)
					s.deletes[r] = r.life
				}
			}
		}
	}
	for n := range s.suspect {
		var lives [chunkSize]uint64
		r := newChunkReader(s.base.chunks[n].data, n, s.scratch)
		for {
			ok, err := r.read(&s.dir)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			lives[r.id%chunkSize] = r.life
		}
		s.scratch = r.buf
		for i, life := range lives {
			r := s.dir.row(n<<chunkBits + uint32(i))
			if r == nil {
				break
			}
			if _, pending := s.deletes[r]; r.life > life && !pending {
				s.deletes[r] = r.life
			}
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
		if !s.sure {
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
			s.left = true
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

// rejoin goes on as a new instance after this one was folded with its words as of seq.
func (s *Syncer) rejoin(ctx context.Context, seq uint64, deadRaw []byte) error {
	counted, err := s.wordsAt(ctx, seq, deadRaw)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, e := range counted {
		o, f := e.row.own, e.row.fam
		switch {
		case o == nil || e.words == nil || e.life != e.row.life || f.parts:
		case f.shared:
			added := math.Float64frombits(e.words[gaugeAdded])
			o.gauge.added -= added
			o.gauge.published -= added
		default:
			f.def.Subtract(o.words, liveWords(e.words))
		}
	}
	s.mu.Unlock()
	for n := range s.self.chunks {
		s.dirty[n] = true
	}
	s.newSelf()
	return nil
}

// wordsAt returns what this instance had published with a seq.
func (s *Syncer) wordsAt(ctx context.Context, seq uint64, deadRaw []byte) ([]entry, error) {
	for _, c := range slices.Concat(s.before, s.sent, []contributor{s.self}) {
		if c.head.seq == seq && c.raw != nil && len(c.chunks) == len(c.head.chunks) {
			return s.entries(&c), nil
		}
	}
	for _, o := range s.past {
		if o.head.seq == seq {
			return o.entries, nil
		}
	}
	// The store has gone back to an older state, or was behind.
	old := contributor{id: s.self.id, chunks: make(map[uint32]chunk)}
	if deadRaw != nil && old.head.decode(deadRaw) == nil && old.head.seq == seq {
		err := s.fetchAll(ctx, &old)
		if err == nil {
			return s.entries(&old), nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
	s.log("this process was taken for dead, and what of it was counted is not known exactly", errUnmet)
	return s.entries(&s.self), nil
}

// restoreBase puts the base that this process knows in place of an older one, or of one that has come from an
// older one. Who was folded into the latter, but not into the one that is known, is dead but not folded
// again.
func (s *Syncer) restoreBase(ctx context.Context) error {
	o := s.baseOrphan
	if o == nil {
		return nil
	}
	if err := s.nameOrphans(ctx, o); err != nil {
		return err
	}
	h := o.base
	h.version = max(h.version, s.baseHead.version) + 1
	h.stamp = max(h.stamp, s.baseHead.stamp)
	h.chunks = make(chunkSeqs)
	fresh := s.encodeAll(o.entries, h.version)
	commit := &store.Commit{If: make(map[string][]byte), Heads: make(map[string][]byte)}
	for id, dead := range s.dead {
		if _, ok := h.find(id); !ok {
			name := instanceName(id)
			commit.If[deadPfx+name] = dead.Value
			commit.Heads[livePfx+name], commit.Heads[deadPfx+name] = dead.Value, nil
		}
	}
	for id, c := range s.others {
		if _, ok := h.find(id); ok {
			commit.If[c.group()] = c.raw
			commit.Heads[c.group()], commit.Heads[deadPfx+instanceName(id)] = nil, c.raw
		}
	}
	if err := s.commitBase(ctx, commit, &h, fresh); err != nil {
		return err
	}
	s.baseOrphan, s.restored = nil, s.now()
	s.sure = false
	return s.readHeads(ctx)
}

// restoreOrphans puts back what is known of instances that the store has lost and that have not come back by
// themselves.
func (s *Syncer) restoreOrphans(ctx context.Context) error {
	for id, o := range s.orphans {
		if s.now().Sub(o.since) < s.grace() {
			continue
		}
		if err := s.nameOrphans(ctx, o); err != nil {
			return err
		}
		c := contributor{id: id, head: o.head}
		c.head.chunks = make(chunkSeqs)
		commit := &store.Commit{If: map[string][]byte{c.group(): nil}, Heads: make(map[string][]byte), Parts: make(map[store.Key][]byte)}
		if now := s.others[id]; now != nil {
			commit.If[c.group()] = now.raw
		}
		for n, ch := range s.encodeAll(o.entries, o.head.seq) {
			commit.Parts[partKey(c.group(), n)] = ch.part()
			c.head.chunks[n] = ch.seq
		}
		commit.Heads[c.group()] = c.head.encode()
		if err := s.commit(ctx, commit); err != nil {
			return err
		}
		delete(s.orphans, id)
	}
	return nil
}

// nameOrphans sees to it that the directory has all series of an orphan.
func (s *Syncer) nameOrphans(ctx context.Context, o *orphan) error {
	s.mu.Lock()
	for _, e := range o.entries {
		s.listAgain(e.row)
	}
	s.mu.Unlock()
	return s.appendDirectory(ctx)
}

// listAgain sees to it that the directory will have a series, whoever's it is. mu is held.
func (s *Syncer) listAgain(r *row) {
	if r.id != noID {
		return
	}
	s.fresh = append(s.fresh, r)
	if f := r.fam; f.id < 0 && !slices.ContainsFunc(s.declared, func(d declaration) bool { return d.fam == f }) {
		help := ""
		if f.def != nil {
			help = f.def.Help
		}
		s.declared = append(s.declared, declaration{fam: f, help: help})
	}
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

// next returns a copy with the next version.
func (h *baseHead) next() baseHead {
	n := *h
	n.version++
	n.chunks = maps.Clone(h.chunks)
	if n.chunks == nil {
		n.chunks = make(chunkSeqs)
	}
	n.folds = slices.Clone(h.folds)
	return n
}

// put adds to a commit that the base has these chunks from now on, in a group.
func (h *baseHead) put(c *store.Commit, group string, fresh map[uint32]chunk) {
	if c.Parts == nil {
		c.Parts = make(map[store.Key][]byte)
	}
	for n, ch := range fresh {
		h.chunks[n] = ch.seq
		c.Parts[partKey(group, n)] = ch.part()
	}
	if c.Heads == nil {
		c.Heads = make(map[string][]byte)
	}
	c.Heads[headBase] = h.encode()
}

// setBase notes what this process has made of the base.
func (s *Syncer) setBase(h baseHead, raw []byte, fresh map[uint32]chunk) {
	s.baseHead, s.base.raw, s.base.gen = h, raw, h.gen
	for n, ch := range fresh {
		s.base.chunks[n] = ch
		s.dirty[n] = true
	}
}
