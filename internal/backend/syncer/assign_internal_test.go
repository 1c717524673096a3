package syncer

import (
	"maps"
	"slices"
)

// assignNext gives a series the next free number, as of version 1 of the directory.
func (s *Syncer) assignNext(r *row) {
	rm := s.dir.room(r.fam.list())
	id, _ := rm.next(&s.dir, new(change), r.size())
	s.dir.assign(r, id, slot{since: 1, born: birthOf(1, 1)})
}

// assigned returns the series of a list that have numbers.
func (s *Syncer) assigned(list int) (rows []*row) {
	for _, n := range slices.Sorted(maps.Keys(s.dir.rows[list])) {
		for _, r := range s.dir.chunk(n) {
			if r != nil {
				rows = append(rows, r)
			}
		}
	}
	return rows
}
