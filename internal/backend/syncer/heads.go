package syncer

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus/store"
)

const rounds = 10 // retries after conflicts with other processes

// readHeads updates the known state of the store, except for the words of other instances.
func (s *Syncer) readHeads(ctx context.Context) error {
	var err error
	for range rounds {
		if err = s.readHeadsOnce(ctx); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func (s *Syncer) readHeadsOnce(ctx context.Context) error {
	heads, err := s.store.Heads(ctx, nil)
	if err != nil {
		return err
	}
	raw := heads[headMeta].Value
	if raw == nil {
		m := meta{epoch: s.random(), recovering: s.metaRaw != nil, shard: uint64(s.shard.at), shards: uint64(s.shard.of)}
		err := s.store.Commit(ctx, &store.Commit{
			If: map[string][]byte{headMeta: nil}, Heads: map[string][]byte{headMeta: m.encode()},
		})
		if err != nil {
			return err
		}
		return store.ErrConflict // read again, now that the store has an epoch
	}
	var m meta
	if err := m.decode(raw); err != nil {
		return err
	}
	if err := s.shard.check(&m); err != nil {
		return err
	}
	s.shard.agree()
	if s.metaRaw != nil && m.epoch != s.meta.epoch {
		s.handleLoss()
		if !m.recovering && !m.recovered { // the epoch's author had not seen the loss
			m.recovering = true
			err := s.store.Commit(ctx, &store.Commit{
				If: map[string][]byte{headMeta: raw}, Heads: map[string][]byte{headMeta: m.encode()},
			})
			if err != nil {
				return err
			}
			return store.ErrConflict
		}
	}
	if s.metaRaw == nil || m.epoch != s.meta.epoch {
		s.since = s.now()
	}
	if err := s.readDirectory(ctx, &m); err != nil {
		return err
	}
	s.meta, s.metaRaw = m, raw
	if err := s.readBase(ctx, heads); err != nil {
		return err
	}
	s.readInstances(heads)
	if err := s.checkSelf(ctx, heads); err != nil {
		return err
	}
	s.current = true
	return nil
}

// readInstances takes over the heads of all other instances.
func (s *Syncer) readInstances(heads map[string]store.Head) {
	now := s.now()
	if now.Sub(s.headsRead) > s.opt.Alive/2 { // too long ago to judge silence
		for _, c := range s.others {
			c.seenAt = now
		}
	}
	s.headsRead = now
	clear(s.dead)
	clear(s.gens)
	for name, h := range heads {
		if gen, ok := parseName(name, genPfx); ok {
			s.gens[gen] = h
		}
		if id, ok := parseName(name, deadPfx); ok {
			s.dead[id] = h
		}
	}
	for id, c := range s.others {
		if _, ok := heads[livePfx+instanceName(id)]; !ok {
			_, folded := s.baseHead.find(id)
			if _, dead := s.dead[id]; !folded && !dead {
				s.makeOrphan(c)
			}
			s.drop(c)
		}
	}
	for name, h := range heads {
		id, ok := parseName(name, livePfx)
		if !ok || id == s.self.id {
			continue
		}
		c := s.others[id]
		if c == nil {
			c = &contributor{id: id, chunks: make(map[uint32]chunk)}
		}
		if !bytes.Equal(c.raw, h.Value) {
			var head instanceHead
			if head.decode(h.Value) != nil {
				continue // from a later version
			}
			if c.raw != nil && head.seq < c.head.seq {
				s.makeOrphan(c)
			}
			c.head, c.raw, c.seenAt = head, h.Value, now
			s.lamport = max(s.lamport, head.stamp)
		}
		s.others[id] = c
		if live := h.Age <= c.alive(); live != c.live {
			c.live = live
			for n := range c.chunks {
				s.dirty[n] = true
			}
		}
	}
	for id, o := range s.orphans {
		_, folded := s.baseHead.find(id)
		_, dead := s.dead[id]
		gone := folded || dead
		if c := s.others[id]; c != nil {
			gone = gone || c.head.seq >= o.head.seq
		}
		if gone {
			delete(s.orphans, id)
		}
	}
	if o := s.baseOrphan; o != nil && s.baseHead.version > 0 {
		switch h := &s.baseHead; {
		case h.extends(&o.base) || h.covers(&o.base, heads):
			s.baseOrphan = nil
		case !s.restored.IsZero() && now.Sub(s.restored) < retention*s.opt.Alive && h.prevails(&o.base, heads):
			s.log("this process and another one know of different dead instances; not all their counts can be kept", errUnmet)
			s.baseOrphan = nil
			s.suspect[everyChunk] = true
		}
	}
}

// drop forgets an instance.
func (s *Syncer) drop(c *contributor) {
	for n := range c.chunks {
		s.dirty[n] = true
	}
	delete(s.others, c.id)
}

func parseName(name, prefix string) (uint64, bool) {
	hex, ok := strings.CutPrefix(name, prefix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil
}

// checkSelf resolves commits whose outcome is unknown, and handles a lost or folded head of this
// instance.
func (s *Syncer) checkSelf(ctx context.Context, heads map[string]store.Head) error {
	name := instanceName(s.self.id)
	raw := heads[livePfx+name].Value
	if raw != nil {
		s.baseSeen = s.baseHead.version
		if bytes.Equal(raw, s.self.raw) {
			return nil // unacknowledged commits may still arrive
		}
		for _, c := range s.sent {
			if bytes.Equal(raw, c.raw) {
				s.setSelf(c)
				s.sent = nil
				return nil
			}
		}
		// An older state, or a commit that arrived late. Everything is published again on
		// top of it.
		var h instanceHead
		if err := h.decode(raw); err != nil {
			return err
		}
		s.remember()
		s.seq = max(s.seq, h.seq)
		// The commit by which this instance joined may be the one that arrived late.
		if own := &s.self.head; own.startMS == 0 {
			own.startMS, own.number, own.join = h.startMS, h.number, h.join
		}
		s.forgetPublished(raw)
		return nil
	}
	f, folded := s.baseHead.find(s.self.id)
	if h, ok := heads[deadPfx+name]; ok && !folded {
		var head instanceHead
		if folded = head.decode(h.Value) == nil; folded {
			f = fold{s.self.id, head.seq}
		}
	}
	switch {
	case folded:
		return s.rejoin(ctx, f.seq, heads[deadPfx+name].Value)
	case s.self.raw == nil:
		return nil // has not joined yet
	case s.baseHead.version >= s.baseSeen+maxFolds:
		return s.rejoin(ctx, s.self.head.seq, nil) // its fold may no longer be listed
	}
	s.remember()
	s.forgetPublished(nil)
	return nil
}
