package syncer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"github.com/gotheus/gotheus/store"
)

// A few processes keep the store in order for all: they read the heads of all instances and the
// base, fold those that have left or died, and restore what the store has lost. All others only
// look whether there are such keepers, so the traffic of an idle fleet grows linearly with its
// size. A keeper renews its head with each publication. Whoever sees that one is missing, or too
// old, may take its place. Nothing depends on there being just so many: keepers only make progress,
// and all that they do is as conditional as what others do.

const keepers = 3

// keeper is the head of one.
type keeper struct {
	seen
	id     uint64
	roster uint64 // version of its roster; 0: none
}

func keeperName(n int) string { return keeperPfx + strconv.Itoa(n) }

// takeKeepers takes over the heads of the keepers.
func (s *Syncer) takeKeepers(heads map[string]store.Head) {
	now := s.now().UnixNano()
	s.keeper = -1
	for n := range s.keepers {
		k := &s.keepers[n]
		h := heads[keeperName(n)]
		if !bytes.Equal(h.Value, k.Value) {
			k.since = now
		}
		k.Head, k.id, k.roster = h, 0, 0
		if len(h.Value) >= 16 {
			k.id, k.roster = binary.LittleEndian.Uint64(h.Value), binary.LittleEndian.Uint64(h.Value[8:])
		}
		if k.id == s.self.id {
			s.keeper = n
		}
	}
}

// vacant returns a keeper that is missing or has not been heard of for longer than alive; -1: none.
func (s *Syncer) vacant() int {
	for n := range s.keepers {
		if k := &s.keepers[n]; k.Value == nil || s.age(k.seen) > int64(s.opt.Alive) {
			return n
		}
	}
	return -1
}

// kept reports whether there is a keeper other than this process.
func (s *Syncer) kept() bool {
	for n := range s.keepers {
		if k := &s.keepers[n]; n != s.keeper && k.Value != nil && s.age(k.seen) <= int64(s.opt.Alive) {
			return true
		}
	}
	return false
}

// keep adds to a commit of this process' own head that it goes on being a keeper or, if it leaves,
// that it is none any more. It returns a function to call after the commit.
func (s *Syncer) keep(c *store.Commit, leave bool) func() {
	n := s.keeper
	if n < 0 {
		return func() {}
	}
	name, next := keeperName(n), s.keeperValue(s.roster)
	if leave {
		next = nil
	}
	c.If[name], c.Heads[name] = s.keepers[n].Value, next
	return func() { s.setKeeper(n, next) }
}

// keeperValue returns the next value of this keeper's head.
func (s *Syncer) keeperValue(roster uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, s.self.id)
	b = binary.LittleEndian.AppendUint64(b, roster)
	return binary.AppendUvarint(b, s.seq)
}

func (s *Syncer) setKeeper(n int, value []byte) {
	s.keepers[n] = keeper{seen{store.Head{Value: value}, s.now().UnixNano()}, s.self.id, s.roster}
	if s.keeper = n; value == nil {
		s.keeper, s.keepers[n].id = -1, 0
	}
}

// becomeKeeper makes this process a keeper if there is a vacancy.
func (s *Syncer) becomeKeeper(ctx context.Context) error {
	n := s.vacant()
	if s.keeper >= 0 || n < 0 {
		return nil
	}
	s.roster = 0
	name, value := keeperName(n), s.keeperValue(0)
	err := s.commit(ctx, &store.Commit{
		If:    map[string][]byte{name: s.keepers[n].Value},
		Heads: map[string][]byte{name: value},
	})
	if err == nil {
		s.setKeeper(n, value)
	}
	return err
}

// maintain does a keeper's work, if this process is one or can become one. Others only restore what
// they know that the store has lost.
func (s *Syncer) maintain(ctx context.Context) error {
	if err := s.readCommon(ctx); err != nil {
		return err
	}
	s.forget()
	if err := s.becomeKeeper(ctx); err != nil {
		return ignoreConflict(err) // another process was faster
	}
	if s.self.raw != nil && !s.verified {
		if err := s.verify(ctx); err != nil {
			return err
		}
	}
	if s.keeper < 0 && !s.restoring() {
		return nil
	}
	for range rounds {
		if err := s.readAll(ctx); err != nil {
			return err
		}
		if err := s.work(ctx); !errors.Is(err, store.ErrConflict) || !s.restoring() {
			return ignoreConflict(err) // another process did it
		}
	}
	return nil
}

// work restores what the store has lost, folds dead instances and removes what is no longer needed.
func (s *Syncer) work(ctx context.Context) error {
	for _, f := range []func(context.Context) error{s.restoreBase, s.adoptLeavers, s.restoreOrphans, s.recovered, s.foldDead, s.tidyBase, s.forgetDead, s.forgetGenerations, s.writeRoster} {
		if err := f(ctx); err != nil {
			s.current = false
			return err
		}
	}
	return nil
}

func ignoreConflict(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// forget forgets what is too old to be needed again.
func (s *Syncer) forget() {
	old := retention * s.opt.Alive
	for len(s.before) > 0 && s.now().Sub(s.before[0].seenAt) > old {
		s.before = s.before[1:]
	}
	for len(s.past) > 0 && s.now().Sub(s.past[0].since) > old {
		s.past = s.past[1:]
	}
	s.mu.LockLast()
	s.removed.forget(s.now(), old)
	s.mu.Unlock()
}

// readMembers reads the heads of all instances, and nothing else.
func (s *Syncer) readMembers(ctx context.Context) error {
	return s.again(func() error {
		heads, err := s.store.Heads(ctx, nil)
		if err != nil {
			return err
		}
		if err := s.takeCommon(ctx, heads); err != nil {
			return err
		}
		s.observe(heads)
		s.joins = 0
		var base baseHead
		if base.decode(heads[headBase].Value) == nil {
			s.joins = base.join
		}
		s.current = bytes.Equal(heads[livePfx+instanceName(s.self.id)].Value, s.self.raw)
		return nil
	})
}

// verify looks, once after joining, whether another instance that joined at the same moment has
// taken the same number.
func (s *Syncer) verify(ctx context.Context) error {
	if err := s.readMembers(ctx); err != nil {
		return err
	}
	s.verified = true
	for id, h := range s.members() {
		s.noteNumber(id, h)
	}
	return nil
}

// noteNumber notes that another instance has a number: the one with the lower id keeps it.
func (s *Syncer) noteNumber(id uint64, h *instanceHead) {
	if s.self.raw != nil && !h.left && h.number == s.self.head.number && id < s.self.id {
		s.taken = true
	}
}

// members returns the heads of the other instances, as last read.
func (s *Syncer) members() map[uint64]*instanceHead {
	all := make(map[uint64]*instanceHead)
	for name, seen := range s.found {
		if id, ok := parseName(name, livePfx); ok && id != s.self.id {
			if h := new(instanceHead); h.decode(seen.Value) == nil {
				all[id] = h
			}
		}
	}
	return all
}

// assignNumbers sets the numbers of instances, and returns the ids of the live ones by number; 0
// for that of a dead one. Two that have joined at once may have the same number until one has
// noticed: the one with the lower id keeps it, and the others get free ones, in the same way in all
// processes.
func assignNumbers(all []*contributor) map[int]uint64 {
	slices.SortFunc(all, func(a, b *contributor) int { return cmp.Compare(a.id, b.id) })
	ids := make(map[int]uint64)
	for _, c := range all {
		c.number = int(c.head.number)
		if id, taken := ids[c.number]; !taken || id == 0 && c.live {
			ids[c.number] = 0
			if c.live {
				ids[c.number] = c.id
			}
		} else if c.live {
			c.number = -1
		}
	}
	n := 0
	for _, c := range all {
		if c.number >= 0 {
			continue
		}
		for ; ; n++ {
			if _, taken := ids[n]; !taken {
				break
			}
		}
		c.number, ids[n] = n, c.id
	}
	return ids
}

// freeNumber returns the lowest number that no other instance has. If others have the same one, and
// look for others at the same moment, each gets another one.
func (s *Syncer) freeNumber() uint64 {
	var all []*contributor
	for id, h := range s.members() {
		all = append(all, &contributor{id: id, head: *h, live: !h.left})
	}
	self := &contributor{id: s.self.id, head: s.self.head, live: true}
	if s.self.raw != nil {
		all = append(all, self)
		assignNumbers(all)
		return uint64(self.number)
	}
	ids, n := assignNumbers(all), 0
	for ; ids[n] != 0; n++ {
	}
	return uint64(n)
}

// lastJoin returns the highest place in the order of joining that is known.
func (s *Syncer) lastJoin() uint64 {
	last := max(s.joins, s.baseHead.join, s.self.head.join)
	for _, h := range s.members() {
		last = max(last, h.join)
	}
	return last
}
