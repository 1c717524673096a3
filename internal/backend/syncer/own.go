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
	if s.mine == nil {
		s.listMine(newOwnIndex())
	}
	x := s.mine
	s.mu.Unlock()
	return x.Walk()
}

// listMine begins to list what is there and what comes. mu is held.
func (s *Syncer) listMine(x *ownIndex) {
	s.mine = x
	for i := range s.declared {
		d := &s.declared[i]
		s.declareMine(d.fam, d.help)
	}
	for _, f := range s.schemas {
		for _, r := range f.rows {
			if r.own != nil {
				s.addMine(r)
			}
		}
	}
}

// declareMine notes a family that this process has asked for. mu is held.
func (s *Syncer) declareMine(f *family, help string) {
	if s.mine == nil || f.def == nil {
		return
	}
	s.mineOrder++
	if f.mine == nil {
		f.mine = s.mine.Declare(f.def, s.mineOrder)
	}
	s.mine.SetHelp(f.mine, help, s.mineOrder)
}

// addMine notes a series that this process updates. mu is held.
func (s *Syncer) addMine(r *row) {
	switch {
	case s.mine == nil || r.fam.mine == nil:
	case r.fam.parts:
		s.mine.AddPart(r.fam.mine, r.labels, backend.Part{Words: r.own.words, Instance: &s.mine.self})
	default:
		s.mine.Add(r.fam.mine, backend.Series{Labels: r.labels, Words: r.own.words})
	}
}
