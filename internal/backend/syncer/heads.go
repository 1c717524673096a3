package syncer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus/store"
)

const rounds = 10 // retries after conflicts with other processes

// commonHeads are the heads that every process reads from time to time. Their size does not depend
// on the number of processes.
var commonHeads = func() []string {
	names := []string{headMeta, headDirectory, headDeletions}
	for n := range keepers {
		names = append(names, keeperName(n))
	}
	return names
}()

// readCommon updates what this process knows of the common heads, and of its own. If the latter are
// not as expected, it reads everything.
func (s *Syncer) readCommon(ctx context.Context) error {
	return s.again(func() error {
		name := livePfx + instanceName(s.self.id)
		heads, err := s.commonHeads(ctx, name)
		if err != nil {
			return err
		}
		if err := s.takeCommon(ctx, heads); err != nil {
			return err
		}
		if raw := heads[name].Value; !bytes.Equal(raw, s.self.raw) || raw == nil && s.seq > 0 {
			// It may have been folded, or a commit may have arrived late.
			return s.readAllOnce(ctx)
		} else if raw != nil {
			s.selfSeen = presence{s.now(), s.baseHead.version}
		}
		s.current = true
		return nil
	})
}

// readAll updates the known state of the store, except for the words of other instances.
func (s *Syncer) readAll(ctx context.Context) error {
	return s.again(func() error { return s.readAllOnce(ctx) })
}

// again repeats f as long as there are conflicts with other processes.
func (s *Syncer) again(f func() error) error {
	var err error
	for range rounds {
		if err = f(); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func (s *Syncer) readAllOnce(ctx context.Context) error {
	heads, err := s.store.Heads(ctx, nil)
	if err != nil {
		return err
	}
	if err := s.takeCommon(ctx, heads); err != nil {
		return err
	}
	s.observe(heads)
	if err := s.readDirectory(ctx); err != nil {
		return err
	}
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

// takeCommon takes over the common heads. It starts an epoch if the store has none.
func (s *Syncer) takeCommon(ctx context.Context, heads map[string]store.Head) error {
	server := heads[store.HeadServer].Value
	raw := heads[headMeta].Value
	if raw == nil {
		// A process that knows nothing may be the first to see that the store has lost the
		// head. It has lost everything that the other heads refer to, then.
		delete(heads, store.HeadServer)
		m := meta{recovering: s.metaRaw != nil || len(heads) > 0, server: string(server)}
		var d directory
		if d.decodeHead(heads[headDirectory].Value) != nil {
			return s.begin(ctx, m, nil)
		}
		// Only this head is missing: the epoch goes on.
		m.epoch, m.recovering, m.shard, m.shards = d.epoch, false, uint64(s.shard.at), uint64(s.shard.of)
		return s.replaceMeta(ctx, nil, &m)
	}
	var m meta
	if err := m.decode(raw); err != nil {
		return err
	}
	if err := s.shard.check(&m); err != nil {
		return err
	}
	s.shard.agree()
	if m.server != string(server) {
		// What this server has may be older than what some pages have shown.
		m.server, m.settling = string(server), true
		return s.replaceMeta(ctx, raw, &m)
	}
	if s.metaRaw != nil && m.epoch != s.meta.epoch {
		s.handleLoss()
		if !m.recovering && !m.recovered { // the epoch's author had not seen the loss
			m.recovering = true
			return s.replaceMeta(ctx, raw, &m)
		}
	}
	if s.metaRaw == nil || m.epoch != s.meta.epoch {
		s.since = s.now()
	}
	s.meta, s.metaRaw, s.metaAge = m, raw, heads[headMeta].Age
	s.directoryRaw, s.deletionsRaw = heads[headDirectory].Value, heads[headDeletions].Value
	s.takeKeepers(heads)
	// An empty head is no head: what is empty would pass for known.
	if len(s.directoryRaw) == 0 || len(s.deletionsRaw) == 0 {
		return s.declareLoss(ctx, "the head of the directory")
	}
	return nil
}

// replaceMeta commits a change to meta. It returns a conflict, so that everything is read again.
func (s *Syncer) replaceMeta(ctx context.Context, raw []byte, m *meta) error {
	err := s.store.Commit(ctx, &store.Commit{
		If: map[string][]byte{headMeta: raw}, Heads: map[string][]byte{headMeta: m.encode()},
	})
	if err != nil {
		return err
	}
	return store.ErrConflict
}

// begin starts an epoch with an empty directory and an empty base. raw is the head of the epoch
// that it replaces. It returns a conflict, so that everything is read again.
func (s *Syncer) begin(ctx context.Context, m meta, raw []byte) error {
	m.epoch, m.shard, m.shards = s.random(), uint64(s.shard.at), uint64(s.shard.of)
	d := (&directory{epoch: m.epoch}).next(s.random() | 1)
	err := s.store.Commit(ctx, &store.Commit{
		If: map[string][]byte{headMeta: raw},
		Heads: map[string][]byte{
			headMeta: m.encode(), headDirectory: d.encodeHead(), headDeletions: s.token(),
			headBase: (&baseHead{}).encode(),
		},
		Parts: map[store.Key][]byte{partKey(groupFamilies, listPart): d.encodeList()},
		Drop:  []string{groupDirectory, groupBase},
	})
	if err != nil {
		return err
	}
	return store.ErrConflict
}

// token returns the value of a head that only has to differ from all others.
func (s *Syncer) token() []byte { return binary.LittleEndian.AppendUint64(nil, s.random()) }

// readInstances takes over the heads of all other instances.
func (s *Syncer) readInstances(heads map[string]store.Head) {
	now := s.now()
	if now.Sub(s.headsRead) > s.opt.Alive/2 { // too long ago to judge silence
		for _, c := range s.others {
			c.seenAt = now
		}
	}
	s.headsRead = now
	for id, c := range s.others {
		if _, ok := s.found[livePfx+instanceName(id)]; !ok {
			_, folded := s.baseHead.find(id)
			_, dead := s.found[deadPfx+instanceName(id)]
			if !folded && !dead {
				s.makeOrphan(c)
			}
			s.drop(c)
		}
	}
	s.badHeads = 0
	for name, h := range s.found {
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
			if err := head.decode(h.Value); err != nil {
				s.reportInvalid(fmt.Errorf("head %s: %w: nothing need be done if the instance lives, since it puts its head again; "+
					"otherwise a keeper removes it after %v, and what it has published is lost", name, err, retention*s.opt.Alive))
				s.badHeads++
				continue
			}
			if c.raw != nil && head.seq < c.head.seq {
				s.makeOrphan(c)
			}
			// The same numbers of chunks mean others now.
			if head.restored != c.head.restored {
				s.touch(c)
				c.chunks, c.inline, c.damaged = make(map[uint32]chunk), nil, nil
			}
			c.head, c.raw, c.seenAt = head, h.Value, now
			s.lamport = max(s.lamport, head.stamp)
		}
		s.others[id], c.present = c, presence{now, s.baseHead.version}
		live := s.isLive(c, h)
		if live {
			s.noteNumber(id, &c.head)
		}
		if live != c.live {
			c.live = live
			s.touch(c)
		}
	}
	s.checkOrphans()
}

// seen is a head of another process, and since when this process has seen it unchanged.
type seen struct {
	store.Head
	since int64 // by the clock of this process, in ns since 1970
}

// age returns for how long a head has certainly been unchanged: as the store says, which may not
// know because another server has put the head, or as this process has seen.
func (s *Syncer) age(h seen) (ns int64) { return max(int64(h.Age), s.now().UnixNano()-h.since) }

// observe takes over the heads of all instances and of the generations of the base. The chunks of
// instances of a former epoch have numbers of a directory that is lost; they are foreign.
func (s *Syncer) observe(heads map[string]store.Head) {
	now, found, foreign := s.now().UnixNano(), make(map[string]seen, len(heads)), make(map[string]seen)
	for name, h := range heads {
		into := found
		if strings.HasPrefix(name, livePfx) || strings.HasPrefix(name, deadPfx) {
			if len(h.Value) < 8 || binary.LittleEndian.Uint64(h.Value) != s.meta.epoch {
				into = foreign
			}
		} else if !strings.HasPrefix(name, genPfx) {
			continue
		}
		since := now
		for _, old := range []map[string]seen{s.found, s.foreign} {
			if o, ok := old[name]; ok && bytes.Equal(o.Value, h.Value) {
				since = o.since
			}
		}
		into[name] = seen{h, since}
	}
	s.found, s.foreign = found, foreign
}

// isLive reports whether an instance counts as alive: neither the store nor this process knows its
// head unchanged for longer than alive.
func (s *Syncer) isLive(c *contributor, h seen) bool {
	return !c.head.left && s.age(h) <= int64(c.alive())
}

// checkOrphans forgets the orphans that the store has again.
func (s *Syncer) checkOrphans() {
	for id, o := range s.orphans {
		_, folded := s.baseHead.find(id)
		_, dead := s.found[deadPfx+instanceName(id)]
		gone := folded || dead || s.maybeFolded(o.present, true)
		if c := s.others[id]; c != nil && c.head.continued {
			gone = true // what came later is in another instance
		} else if c != nil && c.head.seq >= o.head.seq {
			gone = true
			c.former = o // until its words have been read again
		}
		if gone {
			delete(s.orphans, id)
		}
	}
	if o := s.baseOrphan; o != nil && s.baseHead.version > 0 {
		switch h := &s.baseHead; {
		case h.extends(&o.base) || h.covers(&o.base, s.found), o.partial:
			s.baseOrphan = nil
		case h.keepsMore(&o.base, s.found),
			!s.restored.IsZero() && s.now().Sub(s.restored) < retention*s.opt.Alive && h.prevails(&o.base, s.found):
			s.log("this process and another one know of different dead instances; not all their counts can be kept", errUnmet)
			s.baseOrphan = nil
		}
	}
}

// drop forgets an instance.
func (s *Syncer) drop(c *contributor) {
	s.touch(c)
	delete(s.others, c.id)
}

// touch makes the next merge include what a contributor has.
func (s *Syncer) touch(c *contributor) {
	for n := range c.chunks {
		if n != inlinePart {
			s.setChanged(c, n)
		}
	}
	s.mu.LockLast()
	defer s.mu.Unlock()
	s.looseChanged = s.looseChanged || c.inline != nil
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
		s.selfSeen = presence{s.now(), s.baseHead.version}
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
		if h.decode(raw) != nil {
			h = instanceHead{} // damaged: it is replaced
		}
		s.remember()
		s.seq = max(s.seq, h.seq)
		// The commit by which this instance joined may be the one that arrived late.
		if own := &s.self.head; own.startMS == 0 && h.startMS != 0 {
			own.startMS, own.number, own.join = h.startMS, h.number, h.join
		}
		s.forgetPublished(raw)
		return nil
	}
	f, folded := s.baseHead.find(s.self.id)
	dead, ok := s.found[deadPfx+name]
	if ok && !folded {
		var head instanceHead
		if folded = head.decode(dead.Value) == nil; folded {
			f = fold{s.self.id, head.seq}
		}
	}
	switch {
	case folded:
		return s.rejoin(ctx, f.seq, dead.Value)
	case s.maybeFolded(s.selfSeen, s.leaving):
		return s.rejoin(ctx, s.self.head.seq, nil)
	case s.self.raw == nil:
		return nil // has not joined yet, or publishes everything again
	}
	s.remember()
	s.forgetPublished(nil)
	return nil
}
