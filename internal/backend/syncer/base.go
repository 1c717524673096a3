package syncer

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// The base, which has what the dead have counted: reading it, and whether one that is found in the store has all that was in
// the one that is known.

// readBase brings the base up to date: every process knows it, so that the dead survive as long as anybody
// does.
func (s *Syncer) readBase(ctx context.Context, heads map[string]store.Head) error {
	raw := heads[headBase].Value
	if s.base.raw != nil && bytes.Equal(raw, s.base.raw) {
		return nil
	}
	var h baseHead
	if err := h.decode(raw); err != nil {
		return err
	}
	known := s.base // until the other one has been read
	switch {
	case h.extends(&s.baseHead):
	case h.covers(&s.baseHead, heads):
		for n := range s.base.chunks { // versions may have been given twice
			s.dirty[n] = true
		}
		s.base.chunks = make(map[uint32]chunk)
		s.suspect[everyChunk] = true
	default:
		s.makeBaseOrphan()
		known = s.base
	}
	s.base.gen = h.gen
	fetched, err := s.fetchBase(ctx, h.chunks)
	if err != nil {
		s.base = known
		return err
	}
	s.baseHead, s.base.raw = h, raw
	if raw == nil {
		s.base.raw = []byte{}
	}
	s.lamport = max(s.lamport, h.stamp)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range fetched {
		r := newChunkReader(s.base.chunks[n].data, n, s.scratch)
		for {
			ok, err := r.read(&s.dir)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			s.setLife(r.row, r.life)
		}
		s.scratch = r.buf
	}
	return nil
}

// continues reports whether h came from old by changes that this process need not know: it has the folds of old, side by
// side. If there are others between them, or they are in another order, the store had gone back, and versions have been
// given twice.
func (h *baseHead) extends(old *baseHead) bool {
	if h.version < old.version {
		return false
	}
	if len(old.folds) == 0 || h.version-old.version >= maxFolds {
		return true
	}
	has := 1 + slices.Index(h.folds, old.folds[len(old.folds)-1])
	same := min(has, len(old.folds))
	return has > 0 && (same == len(old.folds) || len(h.folds) == maxFolds) &&
		slices.Equal(h.folds[has-same:has], old.folds[len(old.folds)-same:]) &&
		(h.version > old.version || has == len(h.folds))
}

// covers reports whether h lacks nothing that old has: who was folded into old, and is not in h, is in the store as
// before. It is a base that has come to be when the store had gone back, or that somebody has restored who knew more
// of it. Without that, two processes that have folded others would go on for ever to replace each other's bases.
func (h *baseHead) covers(old *baseHead, heads map[string]store.Head) bool {
	if len(old.folds) == 0 {
		return false // there is no telling
	}
	return !slices.ContainsFunc(h.missing(old), func(f fold) bool { return !f.present(heads, livePfx) })
}

// prevails reports whether h stays in place of old, although that was restored once already and somebody has undone it: each
// has folds that are nowhere else any more. That with more of these stays, or with the highest id among them. All processes
// must agree, or they would go on for ever to replace each other's bases.
func (h *baseHead) prevails(old *baseHead, heads map[string]store.Head) bool {
	var n, other int
	var last, otherLast uint64
	for _, f := range h.missing(old) {
		if !f.present(heads, livePfx) {
			other, otherLast = other+1, max(otherLast, f.id)
		}
	}
	for _, f := range old.missing(h) {
		if !f.present(heads, livePfx) && !f.present(heads, deadPfx) {
			n, last = n+1, max(last, f.id)
		}
	}
	return n > other || n == other && last > otherLast
}

// isThere reports whether a head with a prefix has what was folded.
func (f fold) present(heads map[string]store.Head, prefix string) bool {
	var h instanceHead
	return h.decode(heads[prefix+instanceName(f.id)].Value) == nil && h.seq >= f.seq
}

// missing returns the folds of old that h does not have. What is older than all that h remembers does not count as missing.
func (h *baseHead) missing(old *baseHead) (list []fold) {
	first := 0
	if len(h.folds) == maxFolds {
		first = max(0, slices.IndexFunc(old.folds, func(f fold) bool { return f.id == h.folds[0].id }))
	}
	for _, f := range old.folds[first:] {
		if g, ok := h.find(f.id); !ok || g.seq < f.seq {
			list = append(list, f)
		}
	}
	return list
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
