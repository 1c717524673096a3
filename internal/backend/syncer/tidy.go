package syncer

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// Deletions leave words of deleted series in the base, which do not count. A chunk loses them when
// it is encoded for another reason, which may never happen again.

// tidyAtOnce is how many chunks of the base one commit drops or encodes again, at most.
const tidyAtOnce = 64

// tidyBase removes words of deleted series from the base: chunks of which the directory has no
// series are dropped, and those in which at least half of the words are stale are encoded again.
// The first keeper does it.
func (s *Syncer) tidyBase(ctx context.Context) error {
	for s.keeper == 0 && !s.restoring() && !bytes.Equal(s.tidied, s.deletionsRaw) && bytes.Equal(s.dir.raw, s.directoryRaw) {
		deletions := s.deletionsRaw
		drop, fresh, more, err := s.staleBase(s.baseHead.version + 1)
		if err != nil {
			return err
		}
		if len(drop)+len(fresh) > 0 {
			if err := s.replaceBase(ctx, drop, fresh); err != nil {
				return err
			}
		}
		if !more {
			s.tidied = deletions
		}
	}
	return nil
}

// staleBase returns which chunks to drop, and those to be encoded again as of a version of the
// base: not more than one commit should change. more is set if there are others.
func (s *Syncer) staleBase(version uint64) (drop []uint32, fresh map[uint32]chunk, more bool, err error) {
	fresh = make(map[uint32]chunk)
	size := 0
	for _, n := range slices.Sorted(maps.Keys(s.base.chunks)) {
		data := s.base.chunks[n].data
		changed, listed := s.dir.chunks[n]
		if encoded, _ := binary.Uvarint(data); listed && changed <= encoded {
			continue // nothing was deleted since
		}
		if many := len(drop) + len(fresh); many >= tidyAtOnce || many > 0 && size >= s.piece/2 {
			return drop, fresh, true, nil
		}
		if !listed {
			drop = append(drop, n)
			continue
		}
		if stale, all, err := s.countStale(n, data); err != nil {
			return nil, nil, false, err
		} else if 2*stale < max(all, 1) {
			continue
		}
		words, err := s.decode(n, &s.base)
		if err != nil {
			return nil, nil, false, err
		}
		if len(words) == 0 {
			drop = append(drop, n)
			continue
		}
		fresh[n] = s.encode(n, words, version)
		size += len(fresh[n].data)
	}
	return drop, fresh, false, nil
}

// countStale returns how many series a chunk has words of, and how many of these were deleted.
func (s *Syncer) countStale(n uint32, data []byte) (stale, all int, err error) {
	r := newChunkReader(data, n, s.scratch)
	defer func() { s.scratch = r.buf }()
	for {
		ok, err := r.readAny(&s.dir)
		if !ok || err != nil {
			return stale, all, err
		}
		if all++; !r.counts(&s.dir) {
			stale++
		}
	}
}

// replaceBase commits a base without some chunks, and with others in new forms.
func (s *Syncer) replaceBase(ctx context.Context, drop []uint32, fresh map[uint32]chunk) error {
	h := s.baseHead.next()
	commit := &store.Commit{
		If:    map[string][]byte{headDirectory: s.dir.raw},
		Heads: make(map[string][]byte),
		Parts: make(map[store.Key][]byte),
	}
	size := 0
	for _, ch := range fresh {
		size += len(ch.data)
	}
	for _, n := range drop {
		// If there is more, commitBase writes all to a new group.
		if delete(h.chunks, n); size <= s.piece {
			commit.Parts[partKey(s.base.group(), n)] = chunk{seq: h.version}.part()
		}
	}
	if err := s.commitBase(ctx, commit, &h, fresh); err != nil {
		return err
	}
	s.setBase(h, commit.Heads[headBase], fresh)
	for _, n := range drop {
		delete(s.base.chunks, n)
		s.dirty[n] = true
	}
	return nil
}
