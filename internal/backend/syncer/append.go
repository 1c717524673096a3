package syncer

import (
	"context"
	"slices"
	"strings"
)

const (
	// pieceSize is the approximate size of one commit, in bytes: the store's other users wait
	// for it.
	pieceSize = 96 << 10
	// pieceSeries is the number of series that one commit adds to the directory.
	pieceSeries = 4 * chunkSize
)

// appendDirectory adds this process's families and series to the directory, which numbers them.
func (s *Syncer) appendDirectory(ctx context.Context) error {
	for {
		c := s.nextEntries()
		if c == nil && s.dir.breaks < s.breaks {
			c = new(change)
		}
		if c == nil {
			s.unnumbered = false
			return nil
		}
		if err := s.commitDirectory(ctx, c); err != nil {
			return err
		}
	}
}

// nextEntries returns the next change to the directory, or nil if all families and series are in
// it.
func (s *Syncer) nextEntries() *change {
	c := new(change)
	s.mu.Lock()
	for i := range s.declared {
		d := &s.declared[i]
		if !s.dir.helps[d.fam.schema+"\x00"+d.help] && len(c.families) < chunkSize {
			c.families = append(c.families, *d)
		}
	}
	s.mu.Unlock()
	if len(c.families) > 0 {
		return c
	}
	s.sortFresh()
	s.mu.Lock()
	defer s.mu.Unlock()
	rooms := [lists]room{s.dir.room(series), s.dir.room(gauges)}
	for _, r := range s.fresh {
		// Its former life still has a number.
		if r.gone || r.id != noID || r.fam.dying[r.labels] != nil {
			continue
		}
		if len(c.assigned) >= pieceSeries || c.size >= pieceSize && len(c.assigned) > 0 {
			break
		}
		at := rooms[r.fam.list()].next(&s.dir, c)
		c.part(&s.dir, chunkOf(at))[at%chunkSize].row = r
		c.size += slotSize + len(r.labels)
		c.assigned = append(c.assigned, r)
	}
	if len(c.assigned) == 0 {
		return nil
	}
	return c
}

// sortFresh sorts fresh, so that the series of a family get adjacent numbers, and drops what need
// not be in it any more. New series do not wait for that.
func (s *Syncer) sortFresh() {
	s.mu.Lock()
	list := s.fresh
	sorted := s.sorted == len(list)
	s.mu.Unlock()
	if !sorted {
		list = slices.Clone(list)
		slices.SortFunc(list[s.sorted:], byFamily)
		if s.sorted > 0 {
			slices.SortFunc(list, byFamily)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	added := s.fresh[len(list):] // meanwhile
	kept := make([]*row, 0, len(list))
	for _, r := range list {
		if r.queued = !r.gone && r.id == noID; r.queued {
			kept = append(kept, r)
		}
	}
	s.sorted = len(kept)
	if s.fresh = append(kept, added...); len(s.fresh) == 0 {
		s.fresh = nil
	}
}

func byFamily(a, b *row) int {
	if a.fam != b.fam {
		return a.fam.id - b.fam.id
	}
	return strings.Compare(a.labels, b.labels)
}

// queue queues a series for the directory. mu is held.
func (s *Syncer) queue(r *row) {
	if !r.queued {
		r.queued = true
		s.fresh = append(s.fresh, r)
	}
}

// room is where new series of a list get their numbers: in chunks of which at least half is free,
// the emptiest first, so that the numbers in use never take more than twice the room that they
// need; then in the last chunk, and in new ones.
type room struct {
	list   int
	chunks []int
	at     int // first number to look at in the first of chunks
	end    int // of all chunks
}

func (d *directory) room(list int) room {
	r := room{list: list, end: len(d.used[list])}
	for n, used := range d.used[list] {
		if used <= chunkSize/2 || n == r.end-1 && used < chunkSize {
			r.chunks = append(r.chunks, n)
		}
	}
	slices.SortStableFunc(r.chunks, func(a, b int) int { return int(d.used[list][a]) - int(d.used[list][b]) })
	return r
}

// next returns the next free number.
func (r *room) next(d *directory, c *change) uint32 {
	for {
		if len(r.chunks) == 0 {
			r.chunks = append(r.chunks, r.end)
			r.end++
		}
		first := numberAt(r.list, r.chunks[0]<<chunkBits)
		p := c.part(d, chunkOf(first))
		for ; r.at < chunkSize; r.at++ {
			if p[r.at].row == nil {
				r.at++
				return first + uint32(r.at-1)
			}
		}
		r.chunks, r.at = r.chunks[1:], 0
	}
}
