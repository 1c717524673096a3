package lookup

import (
	"hash/maphash"
	"sync"
)

// Memo finds instruments by structs that were looked up before.
type Memo[L comparable, M any] struct {
	set[remembered[L, M]]
	age uint64 // the family's, when the memo was last emptied; guarded by its lock
}

type remembered[L comparable, M any] struct {
	l    L
	m    *M
	hash uint64
	age  uint64 // the family's at that time, which deletions of series increase
}

// Find returns the instrument for l; nil if l was not added, or series were deleted since.
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

// Add stores m as the instrument for l. It replaces an entry of an earlier age. The family's lock
// is held.
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

// Forget empties the memo if series were deleted since it was last emptied, which makes its entries
// stale, and reports whether it did.
func (t *Memo[L, M]) Forget(lock *sync.Mutex, age uint64) bool {
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
