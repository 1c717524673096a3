package index

import (
	"hash/maphash"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// item is a row with its parts, if the family has parts.
type item struct {
	row   *backend.Series // nil: it was removed
	parts *backend.Parts
}

// fresh holds the series that were added since the last snapshot, in the order of addition. They
// are never copied to make room, so the cost of adding a series does not grow with their number. A
// series that is removed leaves an empty place.
type fresh struct {
	chunks [][]item // all but the last one full
	n      int      // places
	empty  int      // places of removed series

	// Tables with open addressing find a series by the hash of its labels. There is one or, if
	// there are very many series, tables of them: none takes long to grow.
	tables []table
}

type table struct {
	slots []slot
	used  int // slots that are not free
}

// slot holds the hash, which most look-ups need, so that they do not read other series.
type slot struct{ hash, number uint32 } // number + 1; 0: the slot is free; removed: it was in use

const (
	firstChunk = 8
	mostChunk  = 512

	tables  = 256
	largest = 4096 // slots, if there is only one table
	removed = ^uint32(0)
)

var seed = maphash.MakeSeed()

func hashOf(labels string) uint32 { return uint32(maphash.String(seed, labels)) }

// add adds a series, hash being that of its labels.
func (f *fresh) add(s item, hash uint32) {
	last := len(f.chunks) - 1
	if last < 0 || len(f.chunks[last]) == cap(f.chunks[last]) {
		f.chunks = append(f.chunks, make([]item, 0, min(max(firstChunk, f.n), mostChunk)))
		last++
	}
	f.chunks[last] = append(f.chunks[last], s)
	f.n++
	f.insert(slot{hash, uint32(f.n)})
}

// len returns the number of series.
func (f *fresh) len() int { return f.n - f.empty }

// find returns the series with these labels and this hash, or nil.
func (f *fresh) find(labels string, hash uint32) *backend.Series {
	if place, _ := f.place(labels, hash, func(*backend.Series) bool { return true }); place != nil {
		return place.row
	}
	return nil
}

func (f *fresh) table(hash uint32) *table {
	if len(f.tables) == 1 {
		return &f.tables[0]
	}
	return &f.tables[hash>>24]
}

// place returns the place and the slot of a series with these labels and this hash for which is
// returns true, or nil.
func (f *fresh) place(labels string, hash uint32, is func(*backend.Series) bool) (*item, *slot) {
	if f.tables == nil {
		return nil, nil
	}
	t := f.table(hash)
	mask := uint32(len(t.slots) - 1)
	for i := hash; mask != noSlots; i++ {
		m := &t.slots[i&mask]
		if m.number == 0 {
			break
		}
		if m.hash == hash && m.number != removed {
			if p := f.at(int(m.number - 1)); p.row != nil && p.row.Labels == labels && is(p.row) {
				return p, m
			}
		}
	}
	return nil, nil
}

const noSlots = ^uint32(0)

// insert adds a slot to its table. The size of a table is a power of two, and a quarter of it stays
// free.
func (f *fresh) insert(s slot) {
	if f.tables == nil {
		f.tables = make([]table, 1)
	}
	t := f.table(s.hash)
	if t.used >= len(t.slots)/4*3 {
		if len(f.tables) == 1 && len(t.slots) >= largest {
			f.tables = make([]table, tables)
			for _, m := range t.slots {
				if m.number != 0 && m.number != removed {
					f.insert(m)
				}
			}
			f.insert(s)
			return
		}
		t.grow()
	}
	t.insert(s)
}

func (t *table) grow() {
	live := 0
	for _, m := range t.slots {
		if m.number != 0 && m.number != removed {
			live++
		}
	}
	old, size := t.slots, 2*firstChunk
	for live >= size/2 {
		size *= 2
	}
	t.slots, t.used = make([]slot, size), 0
	for _, m := range old {
		if m.number != 0 && m.number != removed {
			t.insert(m)
		}
	}
}

func (t *table) insert(s slot) {
	mask := uint32(len(t.slots) - 1)
	i := s.hash
	for t.slots[i&mask].number != 0 {
		i++
	}
	t.slots[i&mask] = s
	t.used++
}

// at returns the i-th place.
func (f *fresh) at(i int) *item {
	for chunk := 0; ; chunk++ {
		if n := cap(f.chunks[chunk]); i < n {
			return &f.chunks[chunk][i]
		} else if n == mostChunk {
			return &f.chunks[chunk+i/mostChunk][i%mostChunk]
		} else {
			i -= n
		}
	}
}

// list returns all series in the order of addition.
func (f *fresh) list() []item {
	list := slices.Concat(f.chunks...)
	if f.empty > 0 {
		list = slices.DeleteFunc(list, func(s item) bool { return s.row == nil })
	}
	return list
}

// sorted returns all series in order, without duplicates. Of several with the same labels, it keeps
// one that exists, if there is one.
func (f *fresh) sorted(family *backend.Family) []item {
	list := f.list()
	slices.SortFunc(list, func(a, b item) int { return byLabels(a.row, b.row) })
	kept := list[:0]
	for _, s := range list {
		switch last := len(kept) - 1; {
		case last < 0 || kept[last].row.Labels != s.row.Labels:
			kept = append(kept, s)
		case family.Sealed(kept[last].row.Words):
			kept[last] = s
		}
	}
	return kept
}

// remove removes and returns the series with these labels and this hash, or returns nil if there is
// none that may be removed. The time that it takes is constant on average.
func (f *fresh) remove(labels string, hash uint32, may func(*backend.Series) bool) *backend.Series {
	place, in := f.place(labels, hash, may)
	if place == nil {
		return nil
	}
	s := place.row
	*place, in.number = item{}, removed
	switch f.empty++; {
	case f.empty == f.n:
		*f = fresh{}
	case f.empty > f.n/2 && f.n <= 2*mostChunk:
		var kept fresh
		for _, s := range f.list() {
			kept.add(s, hashOf(s.row.Labels))
		}
		*f = kept
	}
	return s
}
