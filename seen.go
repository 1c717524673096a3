package gotheus

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// seen finds the instruments of structs that a VecOf has seen before. It works like table.
type seen[L comparable, M Instrument] struct {
	slots atomic.Pointer[[]seenSlot[L, M]]
	n     atomic.Int64
	age   uint64 // when it was last emptied; guarded by the family's lock
}

type seenSlot[L comparable, M Instrument] struct {
	hash  atomic.Uint64
	entry atomic.Pointer[seenEntry[L, M]]
}

type seenEntry[L comparable, M Instrument] struct {
	l    L
	m    *M
	hash uint64
	age  uint64 // the family's at that time, see family.age
}

// find returns the instrument for l, unless series have been deleted since.
func (t *seen[L, M]) find(l L, age uint64) *M {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	mask := uint64(len(slots) - 1)
	hash := maphash.Comparable(seed, l) | 1
	for i := hash >> 1; ; i++ {
		s := &slots[i&mask]
		switch s.hash.Load() {
		case hash:
			if e := s.entry.Load(); e.l == l {
				if e.age != age {
					return nil
				}
				return e.m
			}
		case 0:
			return nil
		}
	}
}

// add adds an entry, or replaces that for the same struct. The family's lock is held.
func (t *seen[L, M]) add(e *seenEntry[L, M]) {
	e.hash = maphash.Comparable(seed, e.l) | 1
	var slots []seenSlot[L, M]
	if p := t.slots.Load(); p != nil {
		slots = *p
	}
	for i := e.hash >> 1; len(slots) > 0; i++ {
		s := &slots[i&uint64(len(slots)-1)]
		if old := s.entry.Load(); old == nil {
			break
		} else if old.l == e.l {
			s.entry.Store(e)
			return
		}
	}
	n := int(t.n.Load()) + 1
	if n > len(slots)/2 {
		larger := make([]seenSlot[L, M], max(4, 2*len(slots)))
		for i := range slots {
			if old := slots[i].entry.Load(); old != nil {
				insertSeen(larger, old)
			}
		}
		insertSeen(larger, e)
		t.slots.Store(&larger)
	} else {
		insertSeen(slots, e)
	}
	t.n.Store(int64(n))
}

func insertSeen[L comparable, M Instrument](slots []seenSlot[L, M], e *seenEntry[L, M]) {
	mask := uint64(len(slots) - 1)
	i := e.hash >> 1
	for slots[i&mask].hash.Load() != 0 {
		i++
	}
	s := &slots[i&mask]
	s.entry.Store(e)
	s.hash.Store(e.hash)
}

// forget empties t if series have been deleted since it was last emptied: it is full of what is gone.
func (t *seen[L, M]) forget(lock *sync.Mutex, age uint64) bool {
	lock.Lock()
	defer lock.Unlock()
	if t.age == age {
		return false
	}
	t.age = age
	t.n.Store(0)
	t.slots.Store(nil)
	return true
}
