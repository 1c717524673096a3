package syncer

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/store"
)

// retention is how long the words of a folded instance stay in the store, as a multiple of Alive:
// they are needed again if the store goes back to a state before the fold.
const retention = 6

// foldsAtOnce is how many instances one commit folds, at most.
const foldsAtOnce = 64

// silence is how long this process must itself have seen no change of an instance's head before it
// folds the instance. It is longer than grace, so that lost data is restored before a process that
// does not know of it folds the rest. Of several keepers, the first one does it.
func (s *Syncer) silence(c *contributor) time.Duration {
	return max(s.opt.Alive, c.alive())*3/2 + time.Duration(max(s.keeper, 0))*s.opt.Alive/4
}

func (s *Syncer) grace() time.Duration { return s.opt.Alive / 4 }

// foldDead folds the instances that have left, and those whose heads this process has seen
// unchanged for long enough.
func (s *Syncer) foldDead(ctx context.Context) error {
	if s.restoring() {
		return nil // the base may be replaced first
	}
	for some := range slices.Chunk(s.foldable(), foldsAtOnce) {
		if err := s.fold(ctx, some); err != nil || s.leaving {
			return err
		}
	}
	return nil
}

// foldable returns the instances to fold, those that joined first at the beginning.
func (s *Syncer) foldable() (list []*contributor) {
	for id, c := range s.others {
		h := s.found[livePfx+instanceName(id)]
		switch {
		case !bytes.Equal(h.Value, c.raw): // cannot be read any more, see forgetDead
		case c.later && c.laterSeq == c.head.seq:
		case c.live:
		case c.head.left, s.now().Sub(c.seenAt) >= s.silence(c), s.leaving && s.surelyDead(h):
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *contributor) int {
		return cmp.Or(cmp.Compare(a.head.join, b.head.join), cmp.Compare(a.id, b.id))
	})
	return list
}

// surelyDead reports whether the store has watched an instance be silent for long, while it was the
// same server: a process that leaves at once cannot watch that itself.
func (s *Syncer) surelyDead(h seen) bool {
	same := s.meta.server != "" && (!s.meta.settling || s.metaAge >= retention*s.opt.Alive)
	return same && h.Age >= retention*s.opt.Alive
}

// fold adds the words of instances to the base.
func (s *Syncer) fold(ctx context.Context, list []*contributor) error {
	if err := s.fetchAll(ctx, list...); err != nil {
		return err
	}
	list, err := s.understood(list)
	if err != nil || len(list) == 0 {
		return err
	}
	if err := s.numberLoose(ctx, list); err != nil {
		return err
	}
	h := s.baseHead.next()
	h.version += uint64(len(list) - 1) // as many as there are folds
	commit := &store.Commit{
		If:    map[string][]byte{headDirectory: s.dir.raw},
		Heads: make(map[string][]byte),
	}
	words := make(map[uint32]map[uint32]entry) // by chunk and number
	for _, c := range list {
		if err := s.addToBase(words, c); err != nil {
			return err
		}
		h.stamp, h.join = max(h.stamp, c.head.stamp), max(h.join, c.head.join)
		h.folds = append(h.folds, fold{c.id, c.head.seq})
		commit.If[c.group()] = c.raw
		commit.Heads[c.group()], commit.Heads[deadPfx+instanceName(c.id)] = nil, c.raw
	}
	h.folds = h.folds[max(0, len(h.folds)-maxFolds):]
	fresh := make(map[uint32]chunk)
	for n, m := range words {
		fresh[n] = s.encode(n, m, h.version)
	}
	if err := s.commitBase(ctx, commit, &h, fresh); err != nil {
		return err
	}
	s.setBase(h, commit.Heads[headBase], fresh)
	for _, c := range list {
		s.drop(c)
	}
	return nil
}

// understood returns the instances of which this process knows all families. The others are of a
// later version, and left to processes of that version: their words would not get into the base.
func (s *Syncer) understood(list []*contributor) (known []*contributor, err error) {
	s.mu.LockLast()
	defer s.mu.Unlock()
	all := !slices.ContainsFunc(s.dir.families, func(f *family) bool { return f.def == nil })
	for _, c := range list {
		later := slices.ContainsFunc(c.inline, func(e looseEntry) bool { return e.fam.def == nil })
		for n, ch := range c.chunks {
			if all || n == inlinePart {
				continue
			}
			r := newChunkReader(ch.data, n, nil)
			for {
				ok, err := r.read(&s.dir)
				if err != nil {
					return nil, err
				}
				if !ok {
					break
				}
				later = later || r.fam.def == nil
			}
		}
		if c.later, c.laterSeq = later, c.head.seq; !later {
			known = append(known, c)
		}
	}
	return known, nil
}

// numberLoose gives numbers to the series that instances have published without.
func (s *Syncer) numberLoose(ctx context.Context, list []*contributor) error {
	s.resolveLoose()
	for _, c := range list {
		s.mu.LockLast()
		for _, e := range c.inline {
			if r := e.fam.rows.Get(e.labels); r != nil && !e.fam.parts && e.fam.def != nil && !r.invalid {
				s.renumber(r)
			}
		}
		s.mu.Unlock()
	}
	if err := s.appendDirectory(ctx); err != nil {
		return err
	}
	return s.publishDeletes(ctx)
}

// addToBase adds an instance's words to those of the base. The map starts with those of the base in
// each chunk.
func (s *Syncer) addToBase(words map[uint32]map[uint32]entry, c *contributor) error {
	chunkWords := func(n uint32) (m map[uint32]entry, err error) {
		if m = words[n]; m == nil {
			m, err = s.decode(n, &s.base)
			words[n] = m
		}
		return m, err
	}
	add := func(id uint32, e entry) error {
		f := e.row.fam
		if f.parts { // not kept beyond the instance
			return nil
		}
		base, err := chunkWords(chunkOf(id))
		if err != nil {
			return err
		}
		if old, ok := base[id]; ok {
			old.words, old.low = f.fold(old.words, old.low, e.words, e.low)
			base[id] = old
		} else {
			base[id] = e
		}
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(c.chunks)) {
		if n == inlinePart {
			continue
		}
		m, err := s.decode(n, c)
		if err != nil {
			return err
		}
		for id, e := range m {
			if err := add(id, e); err != nil {
				return err
			}
		}
	}
	s.mu.LockLast()
	loose := make(map[uint32]entry)
	for _, e := range c.inline {
		if r := e.fam.rows.Get(e.labels); r != nil && r.id != noID && !r.invalid {
			loose[r.id] = entry{row: r, words: slices.Clone(e.words)}
		}
	}
	s.mu.Unlock()
	for id, e := range loose {
		if err := add(id, e); err != nil {
			return err
		}
	}
	return nil
}

// forgetDead removes folded instances after the retention time, and what is left of former epochs.
func (s *Syncer) forgetDead(ctx context.Context) error {
	if s.restoring() {
		return nil
	}
	var names []string
	for _, heads := range []map[string]seen{s.found, s.foreign} {
		for name, h := range heads {
			if s.forgettable(name, h) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for some := range slices.Chunk(names, foldsAtOnce) {
		if err := s.forgetSome(ctx, some); err != nil || s.leaving {
			return err
		}
	}
	return nil
}

// forgettable reports whether a head is that of an instance that is not needed any more: one that
// was folded, is of a former epoch, or cannot be read.
func (s *Syncer) forgettable(name string, h seen) bool {
	if s.age(h) < int64(s.keepDead(h)) || name == livePfx+instanceName(s.self.id) {
		return false
	}
	if _, former := s.foreign[name]; former || strings.HasPrefix(name, deadPfx) {
		return true
	}
	var head instanceHead
	return strings.HasPrefix(name, livePfx) && head.decode(h.Value) != nil
}

// forgetSome removes heads, with the parts that nobody needs then.
func (s *Syncer) forgetSome(ctx context.Context, names []string) error {
	c := &store.Commit{If: make(map[string][]byte), Heads: make(map[string][]byte)}
	for _, name := range names {
		h, ok := s.found[name]
		if !ok {
			h = s.foreign[name]
		}
		c.If[name], c.Heads[name] = h.Value, nil
		live := livePfx + name[len(livePfx):]
		if id, ok := parseName(live, livePfx); !ok || id == s.self.id {
			continue // there are no such parts, or they are in use
		}
		if _, again := s.found[live]; again && live != name {
			continue
		}
		c.Drop = append(c.Drop, live)
		if live != name {
			c.If[live] = s.foreign[live].Value // nobody restores it meanwhile
		}
	}
	if err := s.commit(ctx, c); err != nil {
		return err
	}
	for _, name := range names {
		delete(s.found, name)
		delete(s.foreign, name)
	}
	return nil
}

// keepDead returns for how long a folded instance is kept. One that has left will not ask what was
// folded of it.
func (s *Syncer) keepDead(h seen) time.Duration {
	var head instanceHead
	if head.decode(h.Value) == nil && head.left {
		return s.opt.Alive
	}
	return retention * s.opt.Alive
}

// leave publishes for the last time, and marks this instance as one that has left: a keeper folds
// it. Before that, it restores what it knows that the store has lost; nobody else may know it.
func (s *Syncer) leave(ctx context.Context) error {
	s.leaving = true
	for range rounds {
		if err := s.publish(ctx); err != nil {
			return err
		}
		if !s.anyDue() {
			break
		}
		if err := s.readAll(ctx); err != nil {
			return err
		}
		for _, restore := range []func(context.Context) error{s.restoreBase, s.restoreOrphans} {
			if err := restore(ctx); ignoreConflict(err) != nil {
				return err
			}
		}
		s.current = false
	}
	s.departed = true
	if !s.kept() {
		s.tidy(ctx) // what is not done now, the next one does
	}
	return nil
}

// tidyOften is how many of those that leave do one keeper's work, if there is none: one in so many.
// It is far less than foldsAtOnce, so the work gets done.
const tidyOften = 32

// tidy folds some of those that have left before, if no keeper does: programs that only ever run
// for a moment would leave more and more behind.
func (s *Syncer) tidy(ctx context.Context) {
	if s.random()%tidyOften != 0 || s.vacant() < 0 || s.becomeKeeper(ctx) != nil || s.keeper < 0 {
		return
	}
	if s.readAll(ctx) == nil {
		s.work(ctx)
	}
	if n := s.keeper; n >= 0 {
		s.commit(ctx, &store.Commit{
			If:    map[string][]byte{keeperName(n): s.keepers[n].Value},
			Heads: map[string][]byte{keeperName(n): nil},
		})
	}
}

// decode returns the entries of a contributor's chunk, by number of the series.
func (s *Syncer) decode(n uint32, c *contributor) (map[uint32]entry, error) {
	m := make(map[uint32]entry)
	r := newChunkReader(c.chunks[n].data, n, nil)
	for {
		ok, err := r.read(&s.dir)
		if !ok {
			return m, err
		}
		m[r.id] = entry{row: r.row, words: slices.Clone(r.words), low: slices.Clone(r.low)}
	}
}

// encode encodes words as of the known version of the directory.
func (s *Syncer) encode(n uint32, m map[uint32]entry, seq uint64) chunk {
	w := &s.writer
	w.begin(nil, n, s.dir.version)
	for _, id := range slices.Sorted(maps.Keys(m)) {
		w.entry(id, m[id].row.fam, m[id].words, m[id].low)
	}
	return chunk{seq: seq, data: w.end()}
}

func (s *Syncer) encodeAll(entries []entry, seq uint64) map[uint32]chunk {
	byChunk := make(map[uint32]map[uint32]entry)
	for _, e := range entries {
		if e.row.gone || e.row.id == noID {
			continue // deleted
		}
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
