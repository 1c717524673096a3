package syncer

import (
	"context"

	"github.com/gotheus/gotheus/store"
)

// publishDeletes publishes this process's deletions: it gives the series a new life in the base.
func (s *Syncer) publishDeletes(ctx context.Context) error {
	for {
		s.mu.Lock()
		none := len(s.deletes) == 0
		s.mu.Unlock()
		if none {
			return nil
		}
		if err := s.readHeads(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		lives := make(map[uint32]map[uint32]uint64) // by chunk and series
		var rows []*row
		for r, life := range s.deletes {
			if r.id == noID { // not in the directory, or about to be restored
				if r.own == nil && len(s.orphans) == 0 && s.baseOrphan == nil {
					delete(s.deletes, r)
				}
				continue
			}
			if life == 0 {
				life = r.life + 1
			}
			n := chunkOf(r.id)
			if lives[n] == nil {
				if len(lives) >= pieceSize/partSize {
					continue
				}
				lives[n] = make(map[uint32]uint64)
			}
			lives[n][r.id] = life
			rows = append(rows, r)
		}
		s.mu.Unlock()
		if len(rows) == 0 {
			return nil
		}
		h := s.baseHead.next()
		c := &store.Commit{Parts: make(map[store.Key][]byte)}
		fresh := make(map[uint32]chunk)
		for n, deleted := range lives {
			m, err := s.decode(n, &s.base)
			if err != nil {
				return err
			}
			for id, life := range deleted {
				if e := m[id]; e.row == nil || e.life < life {
					m[id] = entry{row: s.dir.row(id), life: life}
				}
			}
			fresh[n] = s.encode(n, m, h.version)
		}
		h.put(c, s.base.group(), fresh)
		m := s.meta
		m.deletions++
		raw := m.encode()
		c.Heads[headMeta] = raw
		c.If = map[string][]byte{headBase: s.base.rawOrNil()}
		if err := s.commit(ctx, c); err != nil {
			return err
		}
		s.meta, s.metaRaw = m, raw
		s.setBase(h, c.Heads[headBase], fresh)
		s.mu.Lock()
		for _, r := range rows {
			s.setLife(r, lives[chunkOf(r.id)][r.id])
			delete(s.deletes, r)
		}
		s.mu.Unlock()
	}
}

const everyChunk = ^uint32(0)

// checkDeletions looks for deletions that this process knows and the base lacks, because another
// process has restored an older base. It queues them for publication again.
func (s *Syncer) checkDeletions(context.Context) error {
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
		for _, f := range s.schemas { // the directory may have lost the series itself
			for _, r := range f.rows {
				if r.life > 0 && r.id == noID {
					s.renumber(r)
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

// setLife records how often a series was deleted, and ends the life of the words of this process.
// mu is held.
func (s *Syncer) setLife(r *row, life uint64) {
	if life <= r.life {
		return
	}
	r.life = life
	s.deleted = true
	s.changes.Add(1)
	delete(s.deletes, r)
	if o := r.own; o != nil {
		if !o.deleting {
			o.end(r.fam)
		}
		o.deleting = false
	}
	if r.id != noID {
		s.dirty[chunkOf(r.id)] = true
	}
}
