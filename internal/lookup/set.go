package lookup

import (
	"iter"
	"sync/atomic"
)

// set is an open-addressing hash table that is read without a lock. Entries are immutable once they
// are in a slot. A removed one leaves a mark in its slot, so that searches go on beyond it; the
// slot is not used again before the slots are replaced. That begins when half of them have been
// used, or when very few hold entries, so that adding and removing cost constant time on average.
//
// No call takes long: each one that adds or removes moves a few entries to the new slots, while
// readers use the old ones, which get all changes, too. New slots are published only when they are
// complete. A reader that still has the old ones misses later entries, and then takes the slow
// path, under a lock.
type set[E any] struct {
	slots atomic.Pointer[[]atomic.Pointer[E]] // a power of two, about half used at most
	n     atomic.Int64                        // entries; changed under the lock
	used  atomic.Int64                        // slots with an entry or a mark; likewise
	mark  atomic.Pointer[E]                   // equal to no entry; nil: nothing was removed
	next  *next[E]                            // nil: the slots are not being replaced
}

// next are the slots that are going to replace those of a set.
type next[E any] struct {
	slots []atomic.Pointer[E]
	used  int64
	at    int // entries in slots of the set before this one have been moved
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
	p := s.slots.Load()
	if p == nil {
		slots := make([]atomic.Pointer[E], fewest)
		p = &slots
		s.slots.Store(p)
	}
	if x := s.next; x != nil {
		insert(x.slots, e, hash)
		x.used++
		insert(*p, e, hash)
		s.used.Add(1)
		s.n.Add(1)
		s.move(hash)
		return
	}
	insert(*p, e, hash)
	s.n.Add(1)
	if s.used.Add(1) > int64(len(*p)/2) {
		s.renew(hash)
	}
}

// remove removes an entry, and leaves mark in its slot. The caller holds the lock.
func (s *set[E]) remove(e, mark *E, hash func(*E) uint64) {
	slots := *s.slots.Load()
	s.mark.Store(mark)
	slots[find(slots, e, hash)].Store(mark)
	s.n.Add(-1)
	if x := s.next; x != nil {
		if i := find(x.slots, e, hash); i >= 0 { // otherwise it would be moved later
			x.slots[i].Store(mark)
		}
		s.move(hash)
		return
	}
	if len(slots) > fewest && s.n.Load() < int64(len(slots)/16) {
		s.renew(hash)
		for len(slots) <= moveAtOnce && s.next != nil { // there may be no further call
			s.move(hash)
		}
	}
}

const (
	fewest = 4  // slots
	moves  = 64 // slots of which one call moves the entries

	moveAtOnce = 1 << 14 // slots of which one call moves the entries if there are very few
)

// renew begins to replace the slots by new ones with room for more entries.
func (s *set[E]) renew(hash func(*E) uint64) {
	size := int64(fewest)
	// So many may be added before all entries are moved.
	meanwhile := int64(len(*s.slots.Load()) / moves)
	for n := s.n.Load() + meanwhile; n >= size/8*3 && n > 1; {
		size *= 2
	}
	s.next = &next[E]{slots: make([]atomic.Pointer[E], size)}
	s.move(hash)
}

// move moves some entries to the new slots.
func (s *set[E]) move(hash func(*E) uint64) {
	x, old, mark := s.next, *s.slots.Load(), s.mark.Load()
	to := min(x.at+moves, len(old))
	for ; x.at < to; x.at++ {
		// What was added after the beginning is in the new slots already.
		if e := old[x.at].Load(); e != nil && e != mark && find(x.slots, e, hash) < 0 {
			insert(x.slots, e, hash)
			x.used++
		}
	}
	if x.at < len(old) {
		return
	}
	s.slots.Store(&x.slots)
	s.used.Store(x.used)
	s.next = nil
}

// find returns the slot that has an entry, or -1.
func find[E any](slots []atomic.Pointer[E], e *E, hash func(*E) uint64) int {
	for i := hash(e); ; i++ {
		at := i & uint64(len(slots)-1)
		switch slots[at].Load() {
		case e:
			return int(at)
		case nil:
			return -1
		}
	}
}

func insert[E any](slots []atomic.Pointer[E], e *E, hash func(*E) uint64) {
	i := hash(e)
	for slots[i&uint64(len(slots)-1)].Load() != nil {
		i++
	}
	slots[i&uint64(len(slots)-1)].Store(e)
}
