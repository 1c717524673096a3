package syncer

import (
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
	s.mu.Lock()
	if s.owned == nil {
		s.listOwnWords(newOwnIndex())
	}
	x := s.owned
	s.mu.Unlock()
	return x.Walk()
}

// listOwnWords starts the list with the existing series; addOwn adds later ones. mu is held.
func (s *Syncer) listOwnWords(x *ownIndex) {
	s.owned = x
	for i := range s.declared {
		d := &s.declared[i]
		s.declareOwn(d.fam, d.help)
	}
	for _, f := range s.schemas {
		for _, r := range f.rows {
			if r.own != nil {
				s.addOwn(r)
			}
		}
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
	case s.owned == nil || r.fam.ownPlace == nil:
	case r.fam.parts:
		s.owned.AddPart(r.fam.ownPlace, r.labels, backend.Part{Words: r.own.words, Instance: &s.owned.self})
	default:
		s.owned.Add(r.fam.ownPlace, backend.Series{Labels: r.labels, Words: r.own.words})
	}
}
