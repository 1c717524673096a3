package syncer

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// fetched is one part that is read.
type fetched struct {
	c *contributor
	n uint32
	chunk
	bad error // it cannot be read
}

// fetch reads the parts in want that are not known yet. It passes them to take, all parts of a
// chunk at once, while it reads the next ones. If a part is not the wanted version, it continues
// with the rest and returns ErrConflict, or that of missing.
func (s *Syncer) fetch(ctx context.Context, list []*contributor, want []chunkSeqs, filter func(uint32) bool, take func([]fetched) error) error {
	var all []fetched
	for i, c := range list {
		for n, seq := range want[i] {
			if (filter == nil || filter(n)) && c.chunks[n].seq != seq {
				all = append(all, fetched{c: c, n: n, chunk: chunk{seq: seq}})
			}
		}
	}
	slices.SortFunc(all, func(a, b fetched) int { return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.c.id, b.c.id)) })
	var missed *fetched
	for next := s.startGet(ctx, &all); next != nil; {
		parts, err := next.wait()
		if err != nil {
			return err
		}
		now := next
		next = s.startGet(ctx, &all)
		found, not := now.match(parts)
		if not != nil {
			missed = not
		}
		if err := take(found); err != nil {
			if next != nil {
				next.wait()
			}
			return err
		}
	}
	if missed != nil {
		return s.missing(ctx, partKey(missed.c.group(), missed.n), missed.seq)
	}
	return nil
}

// request is a Get in progress.
type request struct {
	wanted []fetched
	parts  [][]byte
	err    error
	done   chan struct{}
}

// startGet starts to read the first parts of all, and removes them from it.
func (s *Syncer) startGet(ctx context.Context, all *[]fetched) *request {
	n, size := 0, 0
	for list := *all; n < len(list) && (size < pullSize || list[n].n == list[n-1].n && list[n].n != inlinePart); n++ {
		size += 256 // plus the size that the part last had
		if known := list[n].c.chunks[list[n].n]; known.data != nil {
			size += len(known.data)
		} else {
			size += partSize
		}
	}
	if n == 0 {
		return nil
	}
	q := &request{wanted: (*all)[:n], done: make(chan struct{})}
	*all = (*all)[n:]
	keys := make([]store.Key, n)
	for i, f := range q.wanted {
		keys[i] = partKey(f.c.group(), f.n)
	}
	go func() {
		defer close(q.done)
		q.parts, q.err = s.get(ctx, keys)
	}()
	return q
}

func (q *request) wait() ([][]byte, error) {
	<-q.done
	return q.parts, q.err
}

// get reads parts from the store.
func (s *Syncer) get(ctx context.Context, keys []store.Key) ([][]byte, error) {
	parts, err := s.store.Get(ctx, keys)
	if err == nil && len(parts) != len(keys) {
		err = fmt.Errorf("syncer: Get of the store returned %d parts for %d keys: it must return one for each", len(parts), len(keys))
	}
	return parts, err
}

// match returns the parts that have the wanted version, and one that has not, if there is one.
func (q *request) match(parts [][]byte) (found []fetched, missed *fetched) {
	found = make([]fetched, 0, len(q.wanted))
	for i, f := range q.wanted {
		if parts[i] == nil {
			missed = &q.wanted[i] // folded and removed in the meantime, or lost
			continue
		}
		c, bad := parsePart(parts[i])
		if f.bad = bad; bad == nil && c.seq != f.seq {
			missed = &q.wanted[i] // rewritten in the meantime
			continue
		}
		if bad == nil {
			f.chunk = c
		}
		found = append(found, f)
	}
	return found, missed
}

// takeChunk takes over a part that was read. If the part is damaged, it returns an error, and keeps
// what an earlier version of the part had, if that is known: nothing on pages decreases then.
func (s *Syncer) takeChunk(f fetched) error {
	err, known := f.bad, f.c.chunks[f.n]
	switch {
	case err != nil:
	case f.n == inlinePart:
		err = s.takeInline(f.c, f.data)
	default:
		err = s.checkChunk(f.n, f.chunk)
	}
	if s.mended(f.c, f.n); err != nil {
		// What is later than the head says, because the store has gone back, would count
		// twice if it was folded: the instance, if it lives, subtracts what the head says.
		if known.data == nil || known.seq > f.seq {
			known.data = []byte{}
			if f.n == inlinePart {
				s.takeInline(f.c, nil)
			}
		}
		f.data = known.data
		s.damage(f.c, f.n, err)
	}
	f.c.chunks[f.n] = f.chunk
	if f.n != inlinePart {
		s.setChanged(f.c, f.n)
	}
	return err
}

// prune drops chunks that a contributor no longer has.
func (s *Syncer) prune(c *contributor, want chunkSeqs) {
	if len(c.chunks) == len(want) {
		return
	}
	for n := range c.chunks {
		if _, ok := want[n]; ok {
			continue
		}
		delete(c.chunks, n)
		s.mended(c, n)
		if n != inlinePart {
			s.setChanged(c, n)
			continue
		}
		c.inline = nil
		s.mu.LockLast()
		s.looseChanged = true
		s.mu.Unlock()
	}
}
