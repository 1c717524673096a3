package syncer

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// The base holds the counts of dead instances. This file reads it, and decides whether a base found
// in the store contains everything in the known one.

// readBase updates the known base. Every process keeps a copy, so that the counts of the dead
// survive as long as any process does.
func (s *Syncer) readBase(ctx context.Context, heads map[string]store.Head) error {
	raw := heads[headBase].Value
	if raw == nil {
		return s.declareLoss(ctx, "the head of the base")
	}
	if s.base.raw != nil && bytes.Equal(raw, s.base.raw) {
		return nil
	}
	var h baseHead
	if h.decode(raw) != nil {
		return s.declareLoss(ctx, "the head of the base, which is damaged")
	}
	known := s.base // until the new one has been read
	switch {
	case h.extends(&s.baseHead):
	case h.covers(&s.baseHead, s.found):
		for n := range s.base.chunks { // version numbers may have been used twice
			s.dirty[n] = true
		}
		s.base.chunks = make(map[uint32]chunk)
	default:
		s.makeBaseOrphan()
		known = s.base
	}
	s.base.gen = h.gen
	salvaged := s.salvaged
	if err := s.fetchBase(ctx, h.chunks); err != nil {
		if s.salvaged == salvaged {
			s.base = known
		}
		return err
	}
	s.baseHead, s.base.raw, s.base.partial = h, raw, false
	s.lamport = max(s.lamport, h.stamp)
	return nil
}

// extends reports whether h derives from old by further changes: it has the folds of old in the
// same, unbroken order. If other folds are between them, or the order differs, the store had gone
// back, and version numbers have been used twice.
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

// covers reports whether h loses nothing that old has: every instance that was folded into old but
// not into h is in the store as a live head. Such a base arises when the store had gone back, or is
// restored by a process that knew more. Without this rule, two processes that have both folded
// would keep replacing each other's bases.
func (h *baseHead) covers(old *baseHead, found map[string]seen) bool {
	if len(old.folds) == 0 {
		return false // no evidence
	}
	return !slices.ContainsFunc(h.missing(old), func(f fold) bool { return !f.present(found, livePfx) })
}

// prevails reports whether h stays in place of old, although old was restored once and another
// process replaced it again: each has folds that exist nowhere else. The base with more such folds
// stays; if they are equal, the one with the highest id among them. All processes must agree on
// this, or they would keep replacing each other's bases.
func (h *baseHead) prevails(old *baseHead, found map[string]seen) bool {
	var n, other int
	var last, otherLast uint64
	for _, f := range h.missing(old) {
		if !f.present(found, livePfx) {
			other, otherLast = other+1, max(otherLast, f.id)
		}
	}
	for _, f := range old.missing(h) {
		if !f.present(found, livePfx) && !f.present(found, deadPfx) {
			n, last = n+1, max(last, f.id)
		}
	}
	return n > other || n == other && last > otherLast
}

// keepsMore reports whether as many instances or more would be lost as a whole if h were replaced
// by old than if it stays: their heads have been removed since they were folded.
func (h *baseHead) keepsMore(old *baseHead, found map[string]seen) bool {
	gone := func(list []fold) (n int) {
		for _, f := range list {
			_, live := found[livePfx+instanceName(f.id)]
			_, dead := found[deadPfx+instanceName(f.id)]
			if !live && !dead {
				n++
			}
		}
		return n
	}
	n := gone(old.missing(h))
	return n > 0 && n >= gone(h.missing(old))
}

// present reports whether a head with this prefix has what was folded.
func (f fold) present(found map[string]seen, prefix string) bool {
	var h instanceHead
	return h.decode(found[prefix+instanceName(f.id)].Value) == nil && h.seq >= f.seq
}

// missing returns the folds of old that h lacks. Folds older than the oldest one that h still lists
// do not count as missing.
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

// next returns a copy with the next version number.
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

// put adds chunks of the base, and its head, to a commit.
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

// setBase records the base that this process has just committed.
func (s *Syncer) setBase(h baseHead, raw []byte, fresh map[uint32]chunk) {
	s.baseHead, s.base.raw, s.base.gen = h, raw, h.gen
	for n, ch := range fresh {
		s.base.chunks[n] = ch
		s.dirty[n] = true
	}
}
