package syncer

import (
	"context"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/store"
)

// appendDirectory adds this process's families and series to the directory, which numbers them.
func (s *Syncer) appendDirectory(ctx context.Context) error {
	for {
		c, apply := s.nextEntries()
		if c == nil {
			s.unnumbered = false
			return nil
		}
		if err := s.commit(ctx, c); err != nil {
			return err
		}
		s.mu.Lock()
		apply()
		s.mu.Unlock()
	}
}

// nextEntries returns a commit that appends families or series to the directory, and a function to
// call after it. It returns nil if nothing is left to append.
func (s *Syncer) nextEntries() (*store.Commit, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meta
	c := &store.Commit{Parts: make(map[store.Key][]byte)}
	var fams []declaration
	for i := range s.declared {
		d := &s.declared[i]
		if !s.dir.helps[d.fam.schema+"\x00"+d.help] && len(fams) < chunkSize {
			e := d.fam.entry(d.help)
			c.Parts[partKey(groupFamilies, uint32(m.lists[families].n))] = e
			m.lists[families].add(e)
			fams = append(fams, *d)
		}
	}
	var rows []*row
	n := 0 // rows of fresh that the commit covers
	if len(fams) == 0 {
		if s.sorted != len(s.fresh) { // once, not for each of thousands of commits
			s.fresh = slices.DeleteFunc(s.fresh, func(r *row) bool { return r.id != noID })
			// Keeps the series of a family adjacent.
			slices.SortFunc(s.fresh, func(a, b *row) int {
				if a.fam != b.fam {
					return a.fam.id - b.fam.id
				}
				return strings.Compare(a.labels, b.labels)
			})
			s.fresh = slices.Compact(s.fresh)
			s.sorted = len(s.fresh)
		}
		for ; n < len(s.fresh) && len(rows) < pieceSeries; n++ {
			if r := s.fresh[n]; r.id == noID { // otherwise another process has added it
				rows = append(rows, r)
			}
		}
		touched := make(map[uint32]bool)
		next := [2]int{len(s.dir.rows[0]), len(s.dir.rows[1])}
		for _, r := range rows {
			list := r.fam.list()
			at := next[list-series]
			next[list-series]++
			key := partKey(groupDirectory, uint32(at>>chunkBits)+uint32(list-series)*gaugeChunks)
			if !touched[key.Part] {
				touched[key.Part] = true
				known := s.dir.rows[list-series]
				for _, old := range known[min(at&^(chunkSize-1), len(known)):] {
					c.Parts[key] = old.entry(c.Parts[key])
				}
			}
			e := r.entry(nil)
			c.Parts[key] = append(c.Parts[key], e...)
			m.lists[list].add(e)
		}
	}
	if len(c.Parts) == 0 {
		s.fresh, s.sorted = nil, 0
		return nil, nil
	}
	raw := m.encode()
	c.Heads = map[string][]byte{headMeta: raw}
	return c, func() {
		s.meta, s.metaRaw = m, raw
		for _, d := range fams {
			s.appendFamily(d.fam, d.help)
		}
		s.fresh, s.sorted = s.fresh[n:], s.sorted-n // rows may have been appended meanwhile
		for _, r := range rows {
			s.dir.append(r)
			if r.own != nil {
				s.listOwn(r)
			}
		}
	}
}
