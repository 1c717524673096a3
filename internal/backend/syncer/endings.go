package syncer

import (
	"cmp"
	"slices"
)

// endings are the deletions of this process that are not published yet.
type endings struct {
	list       []*row        // with numbers; also some that have been published
	unnumbered map[*row]bool // without
	n          int           // of both
	emptied    int           // how many times there were none left
}

// ending records that the deletion of a series, which is gone, is to be published: the series does
// not get a number while its former life still has one. mu is held.
func (s *Syncer) ending(r *row) {
	if r.ending {
		return
	}
	r.ending = true
	r.fam.dying.Set(r.labels, r)
	e := &s.endings
	if e.n++; r.id != noID {
		e.list = append(e.list, r)
		return
	}
	if e.unnumbered == nil {
		e.unnumbered = make(map[*row]bool)
	}
	e.unnumbered[r] = true
}

// endingNumbered is called for a row that has got a number after its end. mu is held.
func (s *Syncer) endingNumbered(r *row) {
	if !r.ending {
		s.ending(r)
	} else if e := &s.endings; e.unnumbered[r] {
		delete(e.unnumbered, r)
		e.list = append(e.list, r)
	}
}

// ended forgets a deletion, which was published or need not be. mu is held.
func (s *Syncer) ended(r *row) {
	if r.fam.dying.Get(r.labels) == r {
		r.fam.dying.Delete(r.labels)
	}
	if !r.ending {
		return
	}
	r.ending = false
	e := &s.endings
	delete(e.unnumbered, r)
	if e.n--; e.n == 0 {
		*e = endings{emptied: e.emptied + 1}
	}
}

// numberedEndings returns the deletions that can be published, in the order of their numbers. What
// is deleted meanwhile may be missed.
func (s *Syncer) numberedEndings() (list []*row) {
	s.mu.LockLast()
	all := s.endings.list
	s.mu.Unlock()
	list = make([]*row, 0, len(all))
	s.inStretches(all, func(r *row) {
		if r.ending && r.id != noID && r.wait == nil {
			list = append(list, r)
		}
	})
	slices.SortFunc(list, func(a, b *row) int { return cmp.Compare(a.id, b.id) })
	return slices.Compact(list)
}

// dropEnded removes what was published from the list of deletions.
func (s *Syncer) dropEnded() {
	s.mu.LockLast()
	all, emptied := s.endings.list, s.endings.emptied
	s.mu.Unlock()
	var kept []*row
	s.inStretches(all, func(r *row) {
		if r.ending {
			kept = append(kept, r)
		}
	})
	s.mu.LockLast()
	defer s.mu.Unlock()
	if e := &s.endings; e.emptied == emptied { // otherwise none is left of all
		e.list = append(kept, e.list[len(all):]...)
	}
}
