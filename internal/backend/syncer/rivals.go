package syncer

import (
	"cmp"
	"math"
	"slices"
)

// Families of one name whose schemas differ are rivals: a page can show but one of them, and does so with the first
// that Walk has. That is the one that a live instance has declared last, so that a deploy shows what it brings, and
// when it is rolled back, what is there again. Instances are ordered by when they joined, as the store counts
// them. Each says in its head which rivals it has declared; where there are none, it says nothing.

// noteRival notes a family that is not an auxiliary one. mu is held.
func (s *Syncer) noteRival(f *family) {
	if f.def.Block.Role == 0 && s.shard.at == 0 { // the first shard's order is that of all
		s.rivals[f.def.Name] = append(s.rivals[f.def.Name], f)
		delete(s.ordered, f.def.Name)
	}
}

// ownRivals returns the numbers of the rivals that this process has declared, ascending. mu is held.
func (s *Syncer) ownRivals() (ids []uint32) {
	for _, list := range s.rivals {
		for _, f := range list {
			if len(list) > 1 && f.own && f.id >= 0 {
				ids = append(ids, uint32(f.id))
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// orderRivals brings the order of Walk up to date with what is known of live instances. mu is held.
func (s *Syncer) orderRivals() {
	var last map[int]uint64 // by family, when the last live instance that declares it has joined
	note := func(ids []uint32, join uint64) {
		for _, id := range ids {
			if last == nil {
				last = make(map[int]uint64)
			}
			last[int(id)] = max(last[int(id)], join)
		}
	}
	join := s.self.head.join
	if join == 0 {
		join = math.MaxUint64
	}
	note(s.ownRivals(), join)
	for _, c := range s.others {
		if c.live {
			note(c.head.rivals, c.head.join)
		}
	}
	for _, list := range s.rivals {
		if len(list) < 2 {
			continue
		}
		before := func(a, b *family) int {
			return cmp.Or(cmp.Compare(last[a.id], last[b.id]), cmp.Compare(a.order, b.order))
		}
		if s.ordered[list[0].def.Name] && slices.IsSortedFunc(list, before) {
			continue
		}
		slices.SortFunc(list, before)
		s.ordered[list[0].def.Name] = true
		for _, f := range list {
			s.index.SetOrder(f.place, s.order())
		}
	}
}
