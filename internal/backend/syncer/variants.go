package syncer

import (
	"cmp"
	"math"
	"slices"
)

// Families of one name whose schemas differ are variants: a page can show but one of them, and does so with the first
// that Walk has. That is the one that a live instance has declared last, so that a deploy shows what it brings, and
// when it is rolled back, what is there again. Instances are ordered by when they joined, as the store counts
// them. Each says in its head which variants it has declared; where there are none, it says nothing.

// noteVariant notes a family that is not an auxiliary one. mu is held.
func (s *Syncer) noteVariant(f *family) {
	if f.def.Block.Role == 0 && s.shard.at == 0 { // the first shard's order is that of all
		s.variants[f.def.Name] = append(s.variants[f.def.Name], f)
		delete(s.ordered, f.def.Name)
	}
}

// ownVariants returns the numbers of the variants that this process has declared, ascending. mu is held.
func (s *Syncer) ownVariants() (ids []uint32) {
	for _, list := range s.variants {
		for _, f := range list {
			if len(list) > 1 && f.own && f.id >= 0 {
				ids = append(ids, uint32(f.id))
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// orderVariants brings the order of Walk up to date with what is known of live instances. mu is held.
func (s *Syncer) orderVariants() {
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
	note(s.ownVariants(), join)
	for _, c := range s.others {
		if c.live {
			note(c.head.variants, c.head.join)
		}
	}
	for _, list := range s.variants {
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
