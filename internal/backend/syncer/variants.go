package syncer

import (
	"cmp"
	"math"
	"slices"
)

// Families with the same name but different schemas are variants. A page can show only one of them,
// and shows the first one that Walk returns. That is the one that the live instance that joined
// last declares, so a deploy shows its new schema, and a roll-back the old one again. Instances are
// ordered by their join number, which the store hands out. Each lists the variants it declares in
// its head; without variants the list is empty.

// noteVariant records a family unless it is auxiliary. mu is held.
func (s *Syncer) noteVariant(f *family) {
	if f.def.Block.Role == 0 && s.shard.at == 0 { // the first shard decides the order for all
		s.variants[f.def.Name] = append(s.variants[f.def.Name], f)
		delete(s.ordered, f.def.Name)
	}
}

// ownVariants returns the numbers of the variants that this process declares, in ascending order.
// mu is held.
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

// orderVariants updates the order of Walk from the heads of live instances. mu is held.
func (s *Syncer) orderVariants() {
	var last map[int]uint64 // by family: highest join number of its live instances
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
