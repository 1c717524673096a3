package syncer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

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
	if o == nil || !s.due(o, 0) {
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
	// Without the condition, the store could go back to an older directory first, which then
	// gives the numbers to other series.
	commit := &store.Commit{If: map[string][]byte{headDirectory: s.dir.raw}, Heads: make(map[string][]byte)}
	for name, dead := range s.found {
		if id, ok := parseName(name, deadPfx); ok {
			if _, ok := h.find(id); !ok {
				commit.If[name] = dead.Value
				commit.Heads[livePfx+instanceName(id)], commit.Heads[name] = dead.Value, nil
			}
		}
	}
	for _, heads := range []map[string]seen{s.found, s.foreign} {
		for name, live := range heads {
			if id, ok := parseName(name, livePfx); ok {
				if _, ok := h.find(id); ok {
					commit.If[name] = live.Value
					commit.Heads[name], commit.Heads[deadPfx+instanceName(id)] = nil, live.Value
				}
			}
		}
	}
	if err := s.commitBase(ctx, commit, &h, fresh); err != nil {
		return err
	}
	// It stays an orphan until a reading finds it: the store may go back once more.
	s.restored, s.current = s.now(), false
	return s.readAll(ctx)
}

// adoptLeavers makes orphans of those that had left before the epoch began, if all of their words
// have label texts: what has numbers of the former directory can only be read by who knew that.
func (s *Syncer) adoptLeavers(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(s.foreign)) {
		id, ok := parseName(name, livePfx)
		var head instanceHead
		if !ok || head.decode(s.foreign[name].Value) != nil || !head.left || len(head.chunks) != 1 ||
			s.orphans[id] != nil || s.others[id] != nil || s.age(s.foreign[name]) >= int64(retention*s.opt.Alive) {
			continue
		}
		_, folded := s.baseHead.find(id)
		if o := s.baseOrphan; o != nil && !folded {
			_, folded = o.base.find(id)
		}
		want := head.chunks[inlinePart]
		if folded || want == 0 {
			continue
		}
		parts, err := s.get(ctx, []store.Key{partKey(name, inlinePart)})
		if err != nil {
			return err
		}
		c := contributor{id: id}
		ch, err := parsePart(parts[0])
		if err == nil && ch.seq == want {
			s.mu.LockLast()
			c.inline, err = s.decodeInline(ch.data)
			s.mu.Unlock()
		}
		if err == nil && ch.seq == want { // otherwise it is lost
			s.orphans[id] = &orphan{head: head, entries: s.entries(&c), since: s.now()}
		}
	}
	return nil
}

// restoreOrphans restores what is known of lost instances that have not come back by themselves.
func (s *Syncer) restoreOrphans(ctx context.Context) error {
	done := false
	for _, id := range slices.Sorted(maps.Keys(s.orphans)) {
		o := s.orphans[id]
		if !s.due(o, s.grace()) { // it may restore itself
			continue
		}
		if o.partial {
			if err := s.fillGaps(ctx, o, s.others[id]); err != nil {
				return err
			}
		}
		if err := s.numberOrphan(ctx, o); err != nil {
			return err
		}
		c := contributor{id: id, head: o.head}
		// The instance may still live. It must notice that its chunks were replaced.
		c.head.epoch, c.head.dir, c.head.chunks, c.head.restored = s.meta.epoch, s.dir.version, make(chunkSeqs), s.random()
		commit := &store.Commit{
			If: map[string][]byte{
				headDirectory: s.dir.raw, c.group(): s.headNow(c.group()),
				// It was not folded meanwhile, if this arrives late.
				headBase: s.base.rawOrNil(),
			},
			Heads: make(map[string][]byte), Parts: make(map[store.Key][]byte),
		}
		for n, ch := range s.encodeAll(o.entries, o.head.seq) {
			commit.Parts[partKey(c.group(), n)] = ch.part()
			c.head.chunks[n] = ch.seq
		}
		commit.Heads[c.group()] = c.head.encode()
		if err := s.commit(ctx, commit); err != nil {
			return err
		}
		done = true
	}
	if !done {
		return nil
	}
	s.current = false
	// Which finds what was restored, unless the store has gone back once more.
	return s.readAll(ctx)
}

// headNow returns the head of an instance as last read, whether it can be read or not.
func (s *Syncer) headNow(name string) []byte {
	if h, ok := s.found[name]; ok {
		return h.Value
	}
	return s.foreign[name].Value
}

// fillGaps adds to an orphan that is known in part what another process has restored of it, if any
// has, and what this process knows from earlier publications.
func (s *Syncer) fillGaps(ctx context.Context, o *orphan, now *contributor) error {
	lists := [][]entry{o.entries, nil, o.older}
	if now != nil {
		if err := s.fetchAll(ctx, now); err != nil {
			return err
		}
		lists[1] = s.entries(now)
	}
	o.entries, o.older, o.partial = nil, nil, false
	known := make(map[*row]bool)
	for _, list := range lists {
		for _, e := range list {
			if !known[e.row] {
				known[e.row] = true
				o.entries = append(o.entries, e)
			}
		}
	}
	return nil
}

// due reports whether it is time to restore an orphan, which others need not do within wait. A
// process that leaves does not wait; but what it does not know completely, or may not be up to
// date, it leaves to those that stay, if there are any.
func (s *Syncer) due(o *orphan, wait time.Duration) bool {
	doubtful := o.partial || !o.present.at.IsZero() && o.since.Sub(o.present.at) >= 2*s.opt.Alive
	if s.leaving {
		return !doubtful || !s.kept()
	}
	if doubtful { // others may know more, such as that it was folded long ago
		wait = s.opt.Alive * 3 / 4
	}
	return s.now().Sub(o.since) >= wait
}

// anyDue reports whether this process, which leaves, has anything to restore.
func (s *Syncer) anyDue() bool {
	for _, o := range s.orphans {
		if s.due(o, 0) {
			return true
		}
	}
	return s.baseOrphan != nil && s.due(s.baseOrphan, 0)
}

// numberOrphan adds all series of an orphan to the directory.
func (s *Syncer) numberOrphan(ctx context.Context, o *orphan) error {
	if err := s.readDirectory(ctx); err != nil {
		return err
	}
	for some := range slices.Chunk(o.entries, stretch) {
		s.mu.LockLast()
		for _, e := range some {
			s.renumber(e.row)
		}
		s.mu.Unlock()
	}
	return s.appendDirectory(ctx)
}

// renumber queues a series, whichever process updates it, for the directory. mu is held.
func (s *Syncer) renumber(r *row) {
	if r.id != noID || r.gone {
		return
	}
	s.queue(r)
	if f := r.fam; f.id < 0 && !slices.ContainsFunc(s.declared, func(d declaration) bool { return d.fam == f }) {
		help := ""
		if f.def != nil {
			help = f.def.Help
		}
		s.declared = append(s.declared, declaration{fam: f, help: help})
	}
}
