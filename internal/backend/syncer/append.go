package syncer

import (
	"cmp"
	"context"
	"slices"
)

const (
	// pieceSize is the approximate size of one commit, in bytes: the store's other users wait
	// for it.
	pieceSize = 96 << 10
	// pieceSeries is the number of series that one commit adds to the directory.
	pieceSeries = 4 * chunkSize
)

// appendDirectory adds this process's families and series to the directory, which numbers them. If
// there are new ones all the time, they have to wait for the next call.
func (s *Syncer) appendDirectory(ctx context.Context) error {
	s.retryBlocked()
	sorted := false
	for {
		c := s.nextEntries(&sorted)
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
		s.passed(c.passed)
	}
}

// nextEntries returns the next change to the directory, or nil if all families and series are in
// it.
func (s *Syncer) nextEntries(sorted *bool) *change {
	c := new(change)
	s.mu.LockLast()
	for i := range s.declared {
		d := &s.declared[i]
		if !s.dir.helps[d.fam.schema+"\x00"+d.help] && len(c.families) < chunkSize && c.size < pieceSize {
			c.families = append(c.families, *d)
			c.size += len(d.fam.schema) + len(d.help)
		}
	}
	s.mu.Unlock()
	if len(c.families) > 0 {
		return c
	}
	for list := s.nextWaiting(sorted); len(list) > 0; list = s.nextWaiting(sorted) {
		rooms := [lists]room{s.dir.room(series), s.dir.room(gauges)}
		for some := range slices.Chunk(list, stretch) {
			if !s.assignSome(c, &rooms, some) {
				break
			}
		}
		if len(c.assigned) > 0 {
			return c
		}
		s.passed(c.passed)
		c.passed = 0
	}
	return nil
}

// assignSome gives some series numbers. It returns false if the change is large enough.
func (s *Syncer) assignSome(c *change, rooms *[lists]room, some []*row) bool {
	s.mu.LockLast()
	defer s.mu.Unlock()
	for _, r := range some {
		if len(c.assigned) >= pieceSeries || c.size >= pieceSize && len(c.assigned) > 0 {
			return false
		}
		c.passed++
		// Its former life may still have a number.
		if !r.waits || r.fam.dying.Get(r.labels) != nil {
			continue
		}
		at, ok := rooms[r.fam.list()].next(&s.dir, c, r.size())
		if !ok {
			continue // it stays without a number
		}
		c.part(&s.dir, chunkOf(at))[at%chunkSize].row = r
		c.size += slotSize + len(r.labels)
		c.assigned = append(c.assigned, r)
	}
	return true
}

// room is where new series of a list get their numbers: in chunks of which at least half is free,
// the emptiest first, so that the numbers in use never take more than twice the room that they
// need; then in the last chunk, and in the lowest ones that are free: another process may have
// given numbers that are far from all others. A chunk can be full of bytes as well as of numbers.
type room struct {
	list   int
	chunks []uint32
	at     int    // first number to look at in the first of chunks
	size   int    // what that chunk has got
	free   uint32 // all chunks of the list before it are in use
}

func (d *directory) room(list int) room {
	r := room{list: list, free: firstChunk(list)}
	rows, last := d.rows[list], uint32(0)
	for n := range rows {
		last = max(last, n)
	}
	for n, c := range rows {
		if c.used <= chunkSize/2 && c.size <= chunkBytes/2 || n == last && c.used < chunkSize && c.size < chunkBytes {
			r.chunks = append(r.chunks, n)
		}
	}
	slices.SortFunc(r.chunks, func(a, b uint32) int { return cmp.Or(rows[a].used-rows[b].used, cmp.Compare(a, b)) })
	return r
}

// next returns the next free number, for a series of this size. It returns false if none is left.
func (r *room) next(d *directory, c *change, size int) (id uint32, ok bool) {
	for {
		if len(r.chunks) == 0 {
			for d.chunk(r.free) != nil {
				r.free++
			}
			if r.free >= firstChunk(r.list+1) {
				return 0, false
			}
			r.chunks = append(r.chunks, r.free)
			r.free++
		}
		n, had := r.chunks[0], 0
		if old := d.rows[r.list][n]; old != nil {
			had = old.size
		}
		for p := c.part(d, n); r.at < chunkSize && had+r.size < chunkBytes; r.at++ {
			if p[r.at].row == nil {
				r.at++
				r.size += size
				return n<<chunkBits + uint32(r.at-1), true
			}
		}
		r.chunks, r.at, r.size = r.chunks[1:], 0, 0
	}
}
