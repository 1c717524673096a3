package lookup

import (
	"iter"
	"sync/atomic"
)

// set is an open-addressing hash table that is read without a lock. Entries are immutable once they
// are in a slot, and are only added. A full array of slots is replaced by one of twice the size,
// which is published only when it is complete. A reader that still has the old array misses later
// entries, and then takes the slow path, under a lock.
type set[E any] struct {
	slots atomic.Pointer[[]atomic.Pointer[E]] // length is a power of two, at most half used
	n     atomic.Int64                        // number of entries; changed under the lock
}

// State identifies the contents of a set. If two states are equal, no entry was added in between: a
// set that was emptied or has grown has other slots.
type State[E any] struct {
	slots *[]atomic.Pointer[E]
	n     int64
}

// State returns the current state.
func (s *set[E]) State() State[E] { return State[E]{s.slots.Load(), s.n.Load()} }

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
			if e := (*p)[i].Load(); e != nil && !yield(e) {
				return
			}
		}
	}
}

// add adds an entry that is not in the set. hash returns the slot at which the search for an entry
// starts. The caller holds the lock.
func (s *set[E]) add(e *E, hash func(*E) uint64) {
	var slots []atomic.Pointer[E]
	if p := s.slots.Load(); p != nil {
		slots = *p
	}
	insert := func(slots []atomic.Pointer[E], e *E) {
		mask := uint64(len(slots) - 1)
		i := hash(e)
		for slots[i&mask].Load() != nil {
			i++
		}
		slots[i&mask].Store(e)
	}
	n := int(s.n.Load()) + 1
	if n > len(slots)/2 {
		larger := make([]atomic.Pointer[E], max(4, 2*len(slots)))
		for old := range s.All() {
			insert(larger, old)
		}
		insert(larger, e)
		s.slots.Store(&larger)
	} else {
		insert(slots, e)
	}
	s.n.Store(int64(n))
}

// replace replaces the entries of s with those of another set. The caller holds the lock.
func (s *set[E]) replace(other *set[E]) {
	s.n.Store(other.n.Load())
	s.slots.Store(other.slots.Load())
}
