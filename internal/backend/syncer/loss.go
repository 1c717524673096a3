package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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
	partial bool    // some of its words were lost before this process could read them
	older   []entry // what was known of those, from an earlier publication
	present presence
}

// entry is one series of a contributor.
type entry struct {
	row   *row
	words []uint64
	low   []uint64 // what the float words lack; nil: nothing
}

var (
	errLost  = errors.New("syncer: the store has lost data that is still being restored")
	errUnmet = errors.New("syncer: processes used different stores for longer than they keep history")
)

// lostPart is a part that the store should have had, according to heads that were read before it.
type lostPart struct {
	key     store.Key
	version uint64
}

// missing is called for a part that the store does not have in the version that the heads say. It
// may have been replaced or removed since they were read, so all is read again. If the heads still
// say the same then, the part is lost.
func (s *Syncer) missing(ctx context.Context, key store.Key, version uint64) error {
	p := lostPart{key, version}
	if s.lost != p {
		s.lost = p
		return store.ErrConflict
	}
	return s.declareLoss(ctx, fmt.Sprintf("part %d of %s", key.Part, key.Group))
}

// declareLoss begins a new epoch, since the store has lost a part of the present one: everybody
// publishes everything again, and restores what it knows of others. This process first reads what
// is still there, since nobody else may know it. It returns a conflict, so that everything is read
// again.
func (s *Syncer) declareLoss(ctx context.Context, what string) error {
	s.salvage(ctx)
	s.salvaged++
	s.lost = lostPart{}
	s.log("the store has lost "+what+"; all processes restore what they know", errLost)
	return s.begin(ctx, meta{recovering: true, server: s.meta.server}, s.metaRaw)
}

// salvage reads what the store still has of others, as far as possible.
func (s *Syncer) salvage(ctx context.Context) {
	heads, err := s.store.Heads(ctx, nil)
	if err != nil {
		return
	}
	s.observe(heads)
	numbered := len(s.dir.raw) > 0 && bytes.Equal(s.dir.raw, heads[headDirectory].Value)
	read := func(c *contributor, want chunkSeqs) (complete bool) {
		var keys []store.Key
		var numbers []uint32
		for _, n := range slices.Sorted(maps.Keys(want)) {
			if c.chunks[n].seq != want[n] || c.chunks[n].data == nil {
				keys, numbers = append(keys, partKey(c.group(), n)), append(numbers, n)
			}
		}
		complete = true
		if !numbered { // nobody knows which series the words with numbers are of
			complete = len(want) == 0 || len(want) == 1 && want[inlinePart] != 0
			if keys = slices.DeleteFunc(keys, func(k store.Key) bool { return k.Part != inlinePart }); len(keys) > 0 {
				numbers = []uint32{inlinePart}
			}
		}
		for parts := [][]byte(nil); len(keys) > 0; {
			some := min(len(keys), atOnce(parts, batch))
			var err error
			if parts, err = s.get(ctx, keys[:some]); err != nil {
				return false
			}
			for i, p := range parts {
				ch, err := parsePart(p)
				if n := numbers[i]; p == nil || err != nil || ch.seq != want[n] {
					complete = false
				} else if s.takeChunk(fetched{c: c, n: n, chunk: ch}) != nil {
					complete = false
				}
			}
			keys, numbers = keys[some:], numbers[some:]
		}
		return complete
	}
	members := s.members()
	for _, id := range sorted(members) {
		h, c := members[id], s.others[id]
		if c == nil {
			c = &contributor{id: id, chunks: make(map[uint32]chunk)}
			s.others[id] = c
		}
		if c.fullChunks != nil && c.fullHead.seq == h.seq {
			continue
		}
		c.present = presence{s.now(), s.baseHead.version}
		c.head, c.raw = *h, s.found[livePfx+instanceName(id)].Value
		c.partial = !read(c, h.chunks)
		c.fullHead, c.fullChunks = c.head, maps.Clone(c.chunks)
		for n, ch := range c.fullChunks {
			if ch.seq != h.chunks[n] { // what was read earlier
				if c.older == nil {
					c.older = make(map[uint32]chunk)
				}
				c.older[n] = ch
				delete(c.fullChunks, n)
			}
		}
	}
	var h baseHead
	if raw := heads[headBase].Value; raw != nil && !bytes.Equal(raw, s.base.raw) && h.decode(raw) == nil && h.version > s.baseHead.version {
		s.base.gen = h.gen
		s.base.partial = !read(&s.base, h.chunks)
		s.baseHead = h
	}
}

// handleLoss forgets the directory and everything that refers to its numbers, since the store has
// lost some of it. The known words of other contributors become orphans. It lets others in between
// its steps: what the program calls does not wait for it.
func (s *Syncer) handleLoss() {
	s.makeBaseOrphan()
	for _, id := range slices.Sorted(maps.Keys(s.others)) {
		s.makeOrphan(s.others[id])
	}
	clear(s.others)
	s.remember()
	for _, c := range s.before {
		s.past = append(s.past[max(0, len(s.past)-maxPast):], orphan{head: c.head, entries: s.entries(&c), since: c.seenAt})
	}
	s.before = nil
	s.forgetDirectory()
	s.forgetPublished(nil)
	s.current, s.unnumbered = false, true
	clear(s.dirty)
	s.mu.LockLast()
	s.looseChanged = true
	s.mu.Unlock()
}

// forgetDirectory empties the directory, since the store has lost some of it and may number other
// series anew. It remembers the deletions that could not be published before.
func (s *Syncer) forgetDirectory() {
	s.mu.LockLast()
	ending := slices.Collect(maps.Keys(s.endings.unnumbered))
	s.mu.Unlock()
	lose := func(r *row) {
		if r.ending {
			s.removed.add(r.fam, r.labels, r.born, s.now())
			s.ended(r)
		}
	}
	s.inStretches(ending, lose)
	for _, rows := range s.dir.rows {
		for _, n := range slices.Sorted(maps.Keys(rows)) {
			s.mu.LockLast()
			delete(s.chunks, n)
			for _, r := range rows[n].rows {
				if r == nil {
					continue
				}
				lose(r)
				r.id, r.since = noID, 0
				s.loosely[r] = true
				if r.own != nil && !r.gone {
					s.queue(r)
				}
			}
			s.mu.Unlock()
		}
	}
	s.mu.LockLast()
	defer s.mu.Unlock()
	clear(s.chunks)
	s.newestOwn, s.ndeclared = 0, 0
	for _, f := range s.dir.families {
		f.id = -1
	}
	s.dir = directory{}
	s.seenDeletions, s.breaks = nil, 0
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
	o := c.former
	switch {
	case len(c.fullChunks)+len(c.older) > 0 && (o == nil || o.head.seq <= c.fullHead.seq):
		full := &contributor{id: c.id, chunks: c.fullChunks}
		s.mu.LockLast()
		full.inline, _ = s.decodeInline(c.fullChunks[inlinePart].data)
		s.mu.Unlock()
		o = &orphan{head: c.fullHead, entries: s.entries(full), since: s.now(), partial: c.partial, present: c.present}
		o.older = s.entries(&contributor{chunks: c.older})
	case o == nil:
		return // never read completely, or empty
	default:
		again := *o
		again.since, again.present = s.now(), c.present
		o = &again
	}
	if old := s.orphans[c.id]; old == nil || old.head.seq < o.head.seq {
		s.orphans[c.id] = o
	}
}

func (s *Syncer) makeBaseOrphan() {
	if s.baseHead.version > 0 && (s.baseOrphan == nil || s.baseOrphan.base.version < s.baseHead.version) {
		s.baseOrphan = &orphan{base: s.baseHead, entries: s.entries(&s.base), since: s.now(), partial: s.base.partial}
	}
	s.base.raw, s.base.gen, s.base.chunks, s.baseHead, s.base.partial = nil, 0, make(map[uint32]chunk), baseHead{}, false
}

// entries decodes all words of a contributor. It skips what cannot be decoded.
func (s *Syncer) entries(c *contributor) (list []entry) {
	for _, n := range slices.Sorted(maps.Keys(c.chunks)) {
		if n == inlinePart {
			continue
		}
		r := newChunkReader(c.chunks[n].data, n, s.scratch)
		for {
			if ok, err := r.read(&s.dir); !ok || err != nil {
				break
			}
			list = append(list, entry{row: r.row, words: append([]uint64{}, r.words...), low: slices.Clone(r.low)})
		}
		s.scratch = r.buf
	}
	s.mu.LockLast()
	defer s.mu.Unlock()
	for i := range c.inline {
		e := &c.inline[i]
		list = append(list, entry{row: e.row(c), words: e.words})
	}
	return list
}
