package gotheus

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// table finds the series of a family by their label values, without a lock and without an allocation.
// It is an open-addressing hash table of pointers: an entry is immutable once its pointer is stored,
// entries are only added, and a table that fills up is replaced by one of twice the size. A reader
// that still has the old one misses what came later and goes the slow way, under the family's lock.
type table[M Instrument] struct {
	slots atomic.Pointer[[]atomic.Pointer[entry[M]]] // a power of two, never more than 3/4 full
	n     int                                        // guarded by the family's lock
}

type entry[M Instrument] struct {
	hash uint64
	// key is the values in the family's order, joined by a byte that UTF-8 never contains. So no
	// other values are equal to it, however they are split.
	key string
	m   M
}

const separator = 0xff

// seed is random for every process, so that nobody can choose values that collide.
var seed = maphash.MakeSeed()

// find returns the entry for values, or nil. place says which of values is the family's first, second
// and so on; nil: they are in order. Neither is kept.
func (t *table[M]) find(hash uint64, values []string, place []int) *entry[M] {
	slots := t.slots.Load()
	if slots == nil {
		return nil
	}
	mask := uint64(len(*slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		e := (*slots)[i].Load()
		if e == nil || e.hash == hash && equalKey(e.key, values, place) {
			return e
		}
	}
}

// add adds an entry that find has not found. The family's lock is held.
func (t *table[M]) add(e *entry[M]) {
	slots := t.slots.Load()
	if slots == nil || t.n+1 > len(*slots)/4*3 {
		size := 4
		if slots != nil {
			size = 2 * len(*slots)
		}
		larger := make([]atomic.Pointer[entry[M]], size)
		if slots != nil {
			for i := range *slots {
				if old := (*slots)[i].Load(); old != nil {
					insert(larger, old)
				}
			}
		}
		insert(larger, e)
		t.slots.Store(&larger)
	} else {
		insert(*slots, e)
	}
	t.n++
}

func insert[M Instrument](slots []atomic.Pointer[entry[M]], e *entry[M]) {
	mask := uint64(len(slots) - 1)
	i := e.hash & mask
	for slots[i].Load() != nil {
		i = (i + 1) & mask
	}
	slots[i].Store(e)
}

func hashValues(values []string, place []int) uint64 {
	var h uint64
	for i := range values {
		v := values[i]
		if place != nil {
			v = values[place[i]]
		}
		h = bits.RotateLeft64((h^maphash.String(seed, v))*0x9e3779b97f4a7c15, 29)
	}
	return h
}

func equalKey(key string, values []string, place []int) bool {
	at := 0
	for i := range values {
		v := values[i]
		if place != nil {
			v = values[place[i]]
		}
		end := at + len(v)
		if end > len(key) || key[at:end] != v {
			return false
		}
		if i < len(values)-1 {
			if end == len(key) || key[end] != separator {
				return false
			}
			end++
		}
		at = end
	}
	return at == len(key)
}

func joinKey(values []string, place []int) string {
	var key []byte
	for i := range values {
		v := values[i]
		if place != nil {
			v = values[place[i]]
		}
		if i > 0 {
			key = append(key, separator)
		}
		key = append(key, v...)
	}
	return string(key)
}
