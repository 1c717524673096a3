package gotheus

import (
	"hash/maphash"
	"sync/atomic"
)

// seen finds the instruments of structs that a VecOf has seen before. It works like table.
type seen[L comparable, M Instrument] struct {
	slots atomic.Pointer[[]seenSlot[L, M]]
	n     atomic.Int64
}

type seenSlot[L comparable, M Instrument] struct {
	hash  atomic.Uint64
	entry atomic.Pointer[seenEntry[L, M]]
}

type seenEntry[L comparable, M Instrument] struct {
	l    L
	m    *M
	hash uint64
}

func (t *seen[L, M]) find(l L) *M {
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
				return e.m
			}
		case 0:
			return nil
		}
	}
}

// add adds an entry unless there is one for the same struct. The family's lock is held.
func (t *seen[L, M]) add(e *seenEntry[L, M]) {
	if t.find(e.l) != nil {
		return
	}
	e.hash = maphash.Comparable(seed, e.l) | 1
	var slots []seenSlot[L, M]
	if p := t.slots.Load(); p != nil {
		slots = *p
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
