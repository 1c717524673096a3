package lookup

import (
	"iter"
	"sync/atomic"
)

// set is an open-addressing hash table. Entries are immutable and only added; slots that fill up
// are replaced by twice as many. A reader of the old slots misses later entries, and then takes the
// slow path, under a lock.
type set[E any] struct {
	slots atomic.Pointer[[]atomic.Pointer[E]] // a power of two, never more than half full
	n     atomic.Int64                        // entries; changed under the lock
}

// State is a state of a set. If it is the same as before, nothing was added in between.
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

// add adds an entry that is not in the set. hash returns where the search for an entry begins. The
// lock is held.
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

// replace replaces the entries of s by those of another set. The lock is held.
func (s *set[E]) replace(other *set[E]) {
	s.n.Store(other.n.Load())
	s.slots.Store(other.slots.Load())
}
