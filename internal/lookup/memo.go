package lookup

import (
	"hash/maphash"
	"sync"
)

// Memo caches the instruments of label structs that were looked up before. Find takes no lock.
type Memo[L comparable, M any] struct {
	set[remembered[L, M]]
	age uint64 // the family's age when the memo was last emptied; guarded by its lock
}

type remembered[L comparable, M any] struct {
	l    L
	m    *M
	hash uint64
	age  uint64 // the family's age then, which increases when series are deleted
}

// Find returns the instrument for l, or nil if it is not cached or series were deleted since it was
// added. age is the family's age.
func (t *Memo[L, M]) Find(l L, age uint64) *M {
	p := t.slots.Load()
	if p == nil || len(*p) == 0 {
		return nil
	}
	slots := *p
	hash := maphash.Comparable(seed, l)
	for i := hash; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		switch {
		case e == nil:
			return nil
		case e.hash == hash && e.l == l:
			if e.age != age {
				return nil
			}
			return e.m
		}
	}
}

// Add caches m as the instrument for l, replacing an entry of an earlier age. The caller holds the
// family's lock.
func (t *Memo[L, M]) Add(l L, m *M, age uint64) {
	e := &remembered[L, M]{l: l, m: m, hash: maphash.Comparable(seed, l), age: age}
	if p := t.slots.Load(); p != nil {
		slots := *p
		for i := e.hash; ; i++ {
			s := &slots[i&uint64(len(slots)-1)]
			old := s.Load()
			if old == nil {
				break
			}
			if old.l == l {
				s.Store(e)
				return
			}
		}
	}
	t.add(e, func(e *remembered[L, M]) uint64 { return e.hash })
}

// Forget empties the memo if series were deleted since it was last emptied, so that entries of
// deleted series do not accumulate. It reports whether it did.
func (t *Memo[L, M]) Forget(lock sync.Locker, age uint64) bool {
	lock.Lock()
	defer lock.Unlock()
	if t.age == age {
		return false
	}
	t.age = age
	t.n.Store(0)
	t.used.Store(0)
	t.slots.Store(nil)
	t.next = nil
	return true
}
