package gotheus

import (
	"strings"
	"sync/atomic"
)

// table finds the series of a family by their label values, without a lock and without an allocation.
// It is an open-addressing hash table: an entry is immutable once it is in a slot, entries are only
// added, and a table that fills up is replaced by one of twice the size. A reader that still has the
// old one misses what came later and goes the slow way, under the family's lock.
type table[M Instrument] struct {
	slots atomic.Pointer[[]slot[M]] // a power of two, never more than half full
	n     atomic.Int64              // entries; changed under the family's lock

	overflow atomic.Pointer[entry[M]] // also in slots; nil until it is needed
}

// slot has the hash beside the pointer, so that entries of other values need not be looked at.
type slot[M Instrument] struct {
	hash  atomic.Uint64 // 0: empty; stored after entry
	entry atomic.Pointer[entry[M]]
}

type entry[M Instrument] struct {
	// key is the values in the family's order, each followed by a byte that UTF-8 never contains. So
	// no other values are equal to it, however they are split.
	key  string
	m    M
	hash uint64

	counts bool // for the family's limit of series
}

const separator = 0xff

// find returns the entry for values in the family's order, or nil. hash is theirs. It does not keep them.
func (t *table[M]) find(hash uint64, values []string) *entry[M] {
	p := t.slots.Load()
	if p == nil {
		return nil
	}
	slots := *p
	mask := uint64(len(slots) - 1)
	for i := hash >> 1; ; i++ {
		s := &slots[i&mask]
		switch s.hash.Load() {
		case hash:
			if e := s.entry.Load(); equalKey(e.key, values) {
				return e
			}
		case 0:
			return nil
		}
	}
}

// add adds an entry that find has not found. The family's lock is held.
func (t *table[M]) add(e *entry[M]) {
	var slots []slot[M]
	if p := t.slots.Load(); p != nil {
		slots = *p
	}
	n := int(t.n.Load()) + 1
	if n > len(slots)/2 {
		larger := make([]slot[M], max(4, 2*len(slots)))
		for i := range slots {
			if old := slots[i].entry.Load(); old != nil {
				insert(larger, old)
			}
		}
		insert(larger, e)
		t.slots.Store(&larger)
	} else {
		insert(slots, e)
	}
	t.n.Store(int64(n))
}

func insert[M Instrument](slots []slot[M], e *entry[M]) {
	mask := uint64(len(slots) - 1)
	i := e.hash >> 1
	for slots[i&mask].hash.Load() != 0 {
		i++
	}
	s := &slots[i&mask]
	s.entry.Store(e)
	s.hash.Store(e.hash)
}

func equalKey(key string, values []string) bool {
	for _, v := range values {
		n := len(v)
		if len(key) <= n || key[n] != separator || key[:n] != v {
			return false
		}
		key = key[n+1:]
	}
	return key == ""
}

// joinKey returns the key of values: each is followed by the separator.
func joinKey(values []string) string {
	var key strings.Builder
	for _, v := range values {
		key.WriteString(v)
		key.WriteByte(separator)
	}
	return key.String()
}

// splitKey is the reverse of joinKey.
func splitKey(key string) []string {
	return strings.Split(strings.TrimSuffix(key, string([]byte{separator})), string([]byte{separator}))
}
