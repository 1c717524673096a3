package lookup

import (
	"iter"
	"sync/atomic"
)

// set is an open-addressing hash table that is read without a lock. Entries are immutable once they
// are in a slot. A removed one leaves a mark in its slot, so that searches go on beyond it; the
// slot is not used again before the slots are replaced. That happens when half of them have been
// used, or when very few hold entries, so that adding and removing cost constant time on average.
// New slots are published only when they are complete. A reader that still has the old ones misses
// later entries, and then takes the slow path, under a lock.
type set[E any] struct {
	slots atomic.Pointer[[]atomic.Pointer[E]] // a power of two, at most half used
	n     atomic.Int64                        // entries; changed under the lock
	used  atomic.Int64                        // slots with an entry or a mark; likewise
	mark  atomic.Pointer[E]                   // equal to no entry; nil: nothing was removed
}

// State identifies the contents of a set. If two states are equal, no entry was added in between: a
// set that was emptied or whose slots were replaced has other slots.
type State[E any] struct {
	slots *[]atomic.Pointer[E]
	used  int64
}

// State returns the current state.
func (s *set[E]) State() State[E] { return State[E]{s.slots.Load(), s.used.Load()} }

// Len returns the number of entries.
func (s *set[E]) Len() int { return int(s.n.Load()) }

// All ranges over the entries.
func (s *set[E]) All() iter.Seq[*E] {
	return func(yield func(*E) bool) {
		p := s.slots.Load()
		if p == nil {
			return
		}
		for i := range *p {
			if e := (*p)[i].Load(); e != nil && e != s.mark.Load() && !yield(e) {
				return
			}
		}
	}
}

// add adds an entry that is not in the set. hash returns the slot at which the search for an entry
// starts. The caller holds the lock.
func (s *set[E]) add(e *E, hash func(*E) uint64) {
	n, used := s.n.Load()+1, s.used.Load()+1
	if p := s.slots.Load(); p != nil && used <= int64(len(*p)/2) {
		insert(*p, e, hash)
		s.used.Store(used)
	} else {
		s.renew(e, n, hash)
	}
	s.n.Store(n)
}

// remove removes an entry, and leaves mark in its slot. The caller holds the lock.
func (s *set[E]) remove(e, mark *E, hash func(*E) uint64) {
	slots := *s.slots.Load()
	i := hash(e)
	for slots[i&uint64(len(slots)-1)].Load() != e {
		i++
	}
	s.mark.Store(mark)
	slots[i&uint64(len(slots)-1)].Store(mark)
	n := s.n.Load() - 1
	s.n.Store(n)
	if len(slots) > fewest && n < int64(len(slots)/16) {
		s.renew(nil, n, hash)
	}
}

const fewest = 4 // slots

// renew replaces the slots by new ones for n entries, with room for more: those of the set and, if
// it is not nil, e.
func (s *set[E]) renew(e *E, n int64, hash func(*E) uint64) {
	size := int64(fewest)
	for n > size/8*3 && n > 1 {
		size *= 2
	}
	slots := make([]atomic.Pointer[E], size)
	for old := range s.All() {
		insert(slots, old, hash)
	}
	if e != nil {
		insert(slots, e, hash)
	}
	s.slots.Store(&slots)
	s.used.Store(n)
}

func insert[E any](slots []atomic.Pointer[E], e *E, hash func(*E) uint64) {
	i := hash(e)
	for slots[i&uint64(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&uint64(len(slots)-1)].Store(e)
}
