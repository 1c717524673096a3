package syncer

import (
	"maps"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// The values of this process alone are in the words that its instruments update, so listing those
// words is enough. The list exists from the first WalkOwn on.

// ownIndex lists the words that this process updates.
type ownIndex struct {
	index.Index
	self backend.Instance
}

func newOwnIndex() *ownIndex {
	x := new(ownIndex)
	x.self.Number = -1 // a page of one instance needs no label
	x.self.ID.Store(1)
	return x
}

// WalkOwn implements backend.Owner: it returns the words that this process updates. Deleted series
// are sealed.
func (s *Syncer) WalkOwn() []backend.Group {
	return s.listOwnWords(newOwnIndex).Walk()
}

// listOwnWords returns the list. Unless it exists, it starts it with the existing series; addOwn
// adds later ones, which do not wait for that.
func (s *Syncer) listOwnWords(list func() *ownIndex) *ownIndex {
	s.listing.Lock()
	defer s.listing.Unlock()
	s.mu.LockLast()
	defer s.mu.Unlock()
	if s.owned != nil {
		return s.owned
	}
	s.owned = list()
	for i := range s.declared {
		d := &s.declared[i]
		s.declareOwn(d.fam, d.help)
	}
	seen := 0
	for _, f := range slices.Collect(maps.Values(s.schemas)) {
		for _, r := range f.rows.All() {
			if r.own != nil && !r.gone {
				s.addOwn(r)
			}
			if seen++; seen%stretch == 0 {
				s.mu.Unlock()
				s.mu.LockLast()
			}
		}
	}
	return s.owned
}

// tidyIndexes gives back the memory of series that are not listed any more. mu is not held: new
// series do not wait for it.
func (s *Syncer) tidyIndexes() {
	s.index.Tidy()
	s.mu.Lock()
	x := s.owned
	s.mu.Unlock()
	if x != nil {
		x.Tidy()
	}
}

// declareOwn adds a family that this process declares. mu is held.
func (s *Syncer) declareOwn(f *family, help string) {
	if s.owned == nil || f.def == nil {
		return
	}
	s.ownOrder++
	if f.ownPlace == nil {
		f.ownPlace = s.owned.Declare(f.def, s.ownOrder)
	}
	s.owned.SetHelp(f.ownPlace, help, s.ownOrder)
}

// addOwn adds a series that this process updates. mu is held.
func (s *Syncer) addOwn(r *row) {
	switch {
	case s.owned == nil || r.fam.ownPlace == nil || r.own.listed:
		return
	case r.fam.parts:
		s.owned.AddPart(r.fam.ownPlace, r.labels, backend.Part{Words: r.own.words, Instance: &s.owned.self})
	default:
		s.owned.Add(r.fam.ownPlace, backend.Series{Labels: r.labels, Words: r.own.words})
	}
	r.own.listed = true
}
