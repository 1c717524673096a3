package syncer

// assignNext gives a series the next free number, as of version 1 of the directory.
func (s *Syncer) assignNext(r *row) {
	rm := s.dir.room(r.fam.list())
	s.dir.assign(r, rm.next(&s.dir, new(change), r.size()), slot{since: 1, born: birthOf(1, 1)})
}

// assigned returns the series of a list that have numbers.
func (s *Syncer) assigned(list int) (rows []*row) {
	for _, r := range s.dir.rows[list] {
		if r != nil {
			rows = append(rows, r)
		}
	}
	return rows
}
