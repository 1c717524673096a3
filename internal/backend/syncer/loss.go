package syncer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

// orphan is what this process knows of a contributor that the store has lost.
type orphan struct {
	head    instanceHead
	base    baseHead
	entries []entry
	since   time.Time
}

// entry is one series of a contributor.
type entry struct {
	row   *row
	life  uint64
	words []uint64 // nil: deleted
}

var (
	errLost  = errors.New("syncer: the store has lost data that is still being restored")
	errUnmet = errors.New("syncer: processes used different stores for longer than they keep history")
)

// handleLoss forgets the directory and everything that refers to its numbers, since the store has
// lost some of it. The known words of other contributors become orphans.
func (s *Syncer) handleLoss() {
	s.makeBaseOrphan()
	for _, c := range s.others {
		s.makeOrphan(c)
	}
	clear(s.others)
	s.remember()
	for _, c := range s.before {
		s.past = append(s.past[max(0, len(s.past)-maxPast):], orphan{head: c.head, entries: s.entries(&c), since: c.seenAt})
	}
	s.before = nil
	s.mu.Lock()
	s.forgetDirectory()
	clear(s.chunks)
	s.fresh, s.sorted = nil, 0
	for _, f := range s.schemas {
		for _, r := range f.rows {
			if r.own != nil {
				s.fresh = append(s.fresh, r)
			}
		}
	}
	s.mu.Unlock()
	s.forgetPublished(nil)
	s.current, s.unnumbered = false, true
	clear(s.dirty)
	clear(s.suspect)
	s.suspect[everyChunk] = true
}

// remember keeps the published states of this instance before it continues after a silence or a
// loss: other processes may have folded one of them, or may restore a base that contains one.
func (s *Syncer) remember() {
	for _, c := range append(s.sent, s.self) {
		if c.raw != nil && len(c.chunks) == len(c.head.chunks) {
			c.seenAt = s.now()
			s.before = append(s.before[max(0, len(s.before)-maxPast):], c)
		}
	}
}

func (s *Syncer) makeOrphan(c *contributor) {
	old := s.orphans[c.id]
	if len(c.fullChunks) == 0 || old != nil && old.head.seq >= c.fullHead.seq {
		return // never read completely, or empty
	}
	s.orphans[c.id] = &orphan{head: c.fullHead, entries: s.entries(&contributor{chunks: c.fullChunks}), since: s.now()}
}

func (s *Syncer) makeBaseOrphan() {
	if s.baseHead.version > 0 && (s.baseOrphan == nil || s.baseOrphan.base.version < s.baseHead.version) {
		s.baseOrphan = &orphan{base: s.baseHead, entries: s.entries(&s.base), since: s.now()}
	}
	s.base.raw, s.base.gen, s.base.chunks, s.baseHead = nil, 0, make(map[uint32]chunk), baseHead{}
}

// entries decodes all words of a contributor. It skips what cannot be decoded.
func (s *Syncer) entries(c *contributor) (list []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range sorted(c.chunks) {
		r := newChunkReader(c.chunks[n].data, n, s.scratch)
		for {
			if ok, err := r.read(&s.dir); !ok || err != nil {
				break
			}
			e := entry{row: r.row, life: r.life}
			if !r.empty {
				e.words = append([]uint64{}, r.words...)
			}
			list = append(list, e)
		}
		s.scratch = r.buf
	}
	return list
}

// recovered ends the period without pages after the store has lost everything.
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

// restoreBase replaces the stored base, an older one or one derived from it, by the one that this
// process knows. Instances that were folded into the stored base only are no longer folded but
// dead.
func (s *Syncer) restoreBase(ctx context.Context) error {
	o := s.baseOrphan
	if o == nil {
		return nil
	}
	if err := s.numberOrphan(ctx, o); err != nil {
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
	s.current = false
	return s.readHeads(ctx)
}

// restoreOrphans restores what is known of lost instances that have not come back by themselves.
func (s *Syncer) restoreOrphans(ctx context.Context) error {
	for _, id := range sorted(s.orphans) {
		o := s.orphans[id]
		if s.now().Sub(o.since) < s.grace() {
			continue
		}
		if err := s.numberOrphan(ctx, o); err != nil {
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

// numberOrphan adds all series of an orphan to the directory.
func (s *Syncer) numberOrphan(ctx context.Context, o *orphan) error {
	s.mu.Lock()
	for _, e := range o.entries {
		s.renumber(e.row)
	}
	s.mu.Unlock()
	return s.appendDirectory(ctx)
}

// renumber queues a series, whichever process updates it, for the directory. mu is held.
func (s *Syncer) renumber(r *row) {
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
