package index

import (
	"hash/maphash"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// fresh holds the series that were added since the last snapshot, in the order of addition. They
// are never copied to make room, so the cost of adding a series does not grow with their number. A
// series that is removed leaves nil in its place, until half of the places are empty.
type fresh struct {
	chunks [][]*backend.Series // all but the last one full
	n      int                 // places
	empty  int                 // places of removed series

	// table finds a series by the hash of its labels, with open addressing. The first call of
	// find creates it. It contains the first hashed series.
	table  []slot
	hashed int
}

// slot holds the hash, which most look-ups need, so that they do not read other series.
type slot struct{ hash, number uint32 } // number + 1, or 0 if the slot is free

const (
	firstChunk = 8
	mostChunk  = 512
)

var seed = maphash.MakeSeed()

func (f *fresh) add(s *backend.Series) {
	last := len(f.chunks) - 1
	if last < 0 || len(f.chunks[last]) == cap(f.chunks[last]) {
		f.chunks = append(f.chunks, make([]*backend.Series, 0, min(max(firstChunk, f.n), mostChunk)))
		last++
	}
	f.chunks[last] = append(f.chunks[last], s)
	f.n++
}

func hashOf(labels string) uint32 { return uint32(maphash.String(seed, labels)) }

// find returns the series with these labels and this hash, or nil.
func (f *fresh) find(labels string, hash uint32) *backend.Series {
	if s := f.place(labels, hash, func(*backend.Series) bool { return true }); s != nil {
		return *s
	}
	return nil
}

// place returns the place of a series with these labels and this hash for which is returns true, or
// nil.
func (f *fresh) place(labels string, hash uint32, is func(*backend.Series) bool) **backend.Series {
	for ; f.hashed < f.n; f.hashed++ {
		f.addHash(hashOf((*f.at(f.hashed)).Labels), f.hashed)
	}
	if len(f.table) == 0 {
		return nil
	}
	mask := uint32(len(f.table) - 1)
	for i := hash; ; i++ {
		m := &f.table[i&mask]
		if m.number == 0 {
			return nil
		}
		if m.hash == hash {
			if s := f.at(int(m.number - 1)); *s != nil && (*s).Labels == labels && is(*s) {
				return s
			}
		}
	}
}

// addHash adds the hash of a series to the table; number is the count of series before it. The
// table's size is a power of two, and a quarter of it stays free.
func (f *fresh) addHash(hash uint32, number int) {
	if number >= len(f.table)/4*3 {
		old := f.table
		f.table = make([]slot, max(2*firstChunk, 2*len(old)))
		for _, m := range old {
			if m.number > 0 {
				f.insert(m)
			}
		}
	}
	f.insert(slot{hash, uint32(number + 1)})
}

func (f *fresh) insert(s slot) {
	mask := uint32(len(f.table) - 1)
	i := s.hash
	for f.table[i&mask].number != 0 {
		i++
	}
	f.table[i&mask] = s
}

// at returns the i-th place.
func (f *fresh) at(i int) **backend.Series {
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
func (f *fresh) list() []*backend.Series {
	list := slices.Concat(f.chunks...)
	if f.empty > 0 {
		list = slices.DeleteFunc(list, func(s *backend.Series) bool { return s == nil })
	}
	return list
}

// sorted returns all series in order, without duplicates. Of several with the same labels, it keeps
// one that exists, if there is one.
func (f *fresh) sorted(family *backend.Family) []*backend.Series {
	list := f.list()
	slices.SortFunc(list, byLabels)
	kept := list[:0]
	for _, s := range list {
		switch last := len(kept) - 1; {
		case last < 0 || kept[last].Labels != s.Labels:
			kept = append(kept, s)
		case family.Sealed(kept[last].Words):
			kept[last] = s
		}
	}
	return kept
}

// remove removes and returns the series with these labels and this hash, or returns nil if there is
// none that may be removed. The time that it takes is constant on average.
func (f *fresh) remove(labels string, hash uint32, may func(*backend.Series) bool) *backend.Series {
	place := f.place(labels, hash, may)
	if place == nil {
		return nil
	}
	s := *place
	*place = nil
	if f.empty++; f.empty > f.n/2 {
		var kept fresh
		for _, s := range f.list() {
			kept.add(s)
		}
		*f = kept
	}
	return s
}
