package syncer

import (
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// own.go: what this process alone has counted. It is in the words that instruments update, so nothing but a list of
// them is needed, which is kept from the first call on.

// ownIndex lists the words of this process.
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

// WalkOwn implements backend.Owner: the words that this process updates. A series that was deleted is sealed.
func (s *Syncer) WalkOwn() []backend.Group {
	s.mu.Lock()
	if s.owned == nil {
		s.listOwnWords(newOwnIndex())
	}
	x := s.owned
	s.mu.Unlock()
	return x.Walk()
}

// listOwnWords begins to list what is there and what comes. mu is held.
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

// declareOwn notes a family that this process has asked for. mu is held.
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

// addOwn notes a series that this process updates. mu is held.
func (s *Syncer) addOwn(r *row) {
	switch {
	case s.owned == nil || r.fam.ownPlace == nil:
	case r.fam.parts:
		s.owned.AddPart(r.fam.ownPlace, r.labels, backend.Part{Words: r.own.words, Instance: &s.owned.self})
	default:
		s.owned.Add(r.fam.ownPlace, backend.Series{Labels: r.labels, Words: r.own.words})
	}
}
