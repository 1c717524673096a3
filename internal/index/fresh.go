package index

import (
	"hash/maphash"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// fresh are series that came after the last snapshot, in the order in which they came. They are never copied to
// make room, since a new series must not cost more the more there are.
type fresh struct {
	chunks [][]*backend.Series // all but the last one full
	n      int

	// found tells by a hash of the labels where a series is, by open addressing. It is made by the first find, and knows
	// the first hashed of them.
	found  []mark
	hashed int
}

// mark has what most look-ups need, so that they do not read series that they are not about.
type mark struct{ hash, number uint32 } // number + 1; 0: none

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

// find returns the series with these labels, whose hash is given, or nil.
func (f *fresh) find(labels string, hash uint32) *backend.Series {
	for ; f.hashed < f.n; f.hashed++ {
		f.mark(hashOf(f.at(f.hashed).Labels), f.hashed)
	}
	if len(f.found) == 0 {
		return nil
	}
	mask := uint32(len(f.found) - 1)
	for i := hash; ; i++ {
		m := &f.found[i&mask]
		if m.number == 0 {
			return nil
		}
		if m.hash == hash {
			if s := f.at(int(m.number - 1)); s.Labels == labels {
				return s
			}
		}
	}
}

// mark notes the hash of the series with a number, which is that of those before it. The size of found is a power of two,
// and a quarter of it is free.
func (f *fresh) mark(hash uint32, number int) {
	if number >= len(f.found)/4*3 {
		old := f.found
		f.found = make([]mark, max(2*firstChunk, 2*len(old)))
		for _, m := range old {
			if m.number > 0 {
				f.insert(m)
			}
		}
	}
	f.insert(mark{hash, uint32(number + 1)})
}

func (f *fresh) insert(m mark) {
	mask := uint32(len(f.found) - 1)
	i := m.hash
	for f.found[i&mask].number != 0 {
		i++
	}
	f.found[i&mask] = m
}

// at returns the series with a number.
func (f *fresh) at(i int) *backend.Series {
	for chunk := 0; ; chunk++ {
		if n := cap(f.chunks[chunk]); i < n {
			return f.chunks[chunk][i]
		} else if n == mostChunk {
			return f.chunks[chunk+i/mostChunk][i%mostChunk]
		} else {
			i -= n
		}
	}
}

// sorted returns all of them in order, without those whose labels another one has.
func (f *fresh) sorted() []*backend.Series {
	list := slices.Concat(f.chunks...)
	slices.SortFunc(list, byLabels)
	return slices.CompactFunc(list, func(a, b *backend.Series) bool { return a.Labels == b.Labels })
}

// remove removes those that match.
func (f *fresh) remove(match func(*backend.Series) bool) {
	var kept fresh
	for _, chunk := range f.chunks {
		for _, s := range chunk {
			if !match(s) {
				kept.add(s)
			}
		}
	}
	if kept.n < f.n {
		*f = kept
	}
}
