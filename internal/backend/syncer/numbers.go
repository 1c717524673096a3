package syncer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// readDirectory reads what has changed in the directory since this process last read it. If the
// stored directory does not continue the known one, the store has gone back to an older state, and
// the directory is read from the beginning.
func (s *Syncer) readDirectory(ctx context.Context) error {
	err := s.readChanges(ctx)
	if isDamage(err) { // which is like having lost it
		s.reportInvalid(fmt.Errorf("the directory: %w: it is taken for lost", err))
		return s.missing(ctx, partKey(groupFamilies, listPart), 0)
	}
	if !errors.Is(err, errLost) {
		return err
	}
	breaks := max(s.breaks, s.dir.breaks+1)
	s.handleLoss()
	s.breaks = breaks // commitDirectory records it, unless somebody else has
	if err = s.readChanges(ctx); errors.Is(err, errLost) {
		return store.ErrConflict // it changed again while being read
	}
	return err
}

func (s *Syncer) readChanges(ctx context.Context) error {
	if bytes.Equal(s.directoryRaw, s.dir.raw) {
		s.seenDeletions = s.deletionsRaw
		return nil
	}
	raw, deletions := s.directoryRaw, s.deletionsRaw
	next := new(directory)
	if err := next.decodeHead(raw); err != nil {
		return err
	}
	parts, err := s.get(ctx, []store.Key{partKey(groupFamilies, listPart)})
	if err != nil {
		return err
	}
	if parts[0] == nil {
		return s.missing(ctx, partKey(groupFamilies, listPart), next.version)
	}
	list := new(directory)
	if err := list.decodeList(parts[0]); err != nil {
		return err
	}
	if list.version != next.version || list.token != next.token {
		// Or it has changed again.
		return s.missing(ctx, partKey(groupFamilies, listPart), next.version)
	}
	if !list.continues(&s.dir) {
		return errLost
	}
	// If reading fails midway, the directory is known in part, and not to be changed. The next
	// attempt compares with what was read now.
	d := &s.dir
	s.mu.LockLast()
	d.version, d.token, d.epoch, d.tokens, d.breaks, d.raw = list.version, list.token, list.epoch, list.tokens, list.breaks, []byte{}
	s.mu.Unlock()
	if err := s.readFamilies(ctx, list.tally, list.version); err != nil {
		return err
	}
	if err := s.readParts(ctx, list); err != nil {
		return err
	}
	s.mu.LockLast()
	defer s.mu.Unlock()
	d.raw, s.seenDeletions = raw, deletions
	return nil
}

// readFamilies reads the families that others have added.
func (s *Syncer) readFamilies(ctx context.Context, want tally, version uint64) error {
	var parts [][]byte
	for s.dir.tally.n < want.n {
		var keys []store.Key
		most := atOnce(parts, chunkSize)
		for n := s.dir.tally.n; n < want.n && len(keys) < most; n++ {
			keys = append(keys, partKey(groupFamilies, uint32(n)))
		}
		var err error
		if parts, err = s.get(ctx, keys); err != nil {
			return err
		}
		for i, p := range parts {
			if p == nil {
				return s.missing(ctx, keys[i], version)
			}
			s.mu.LockLast()
			err := s.readFamily(p)
			s.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
	if s.dir.tally != want {
		return errLost
	}
	return nil
}

const (
	partSize = 10 << 10 // approximate size of directory parts and of large parts with words
	batch    = pullSize / partSize
)

// atOnce returns how many parts to read next, at most, given those that were read last: as many as
// have about pullSize bytes together, if they are like these. It begins with few, and goes on with
// twice as many, since some parts are much larger than usual.
func atOnce(last [][]byte, most int) int {
	if len(last) == 0 {
		return max(1, most/8)
	}
	size := 1
	for _, p := range last {
		size += len(p)
	}
	return max(1, min(most, 2*len(last), len(last)*pullSize/size))
}

// readParts reads the parts that have changed. If one is missing, it reads the others nevertheless.
func (s *Syncer) readParts(ctx context.Context, list *directory) error {
	var changed []uint32
	var missed *store.Key
	for n, version := range list.chunks {
		if s.dir.chunks[n] != version {
			changed = append(changed, n)
		}
	}
	slices.Sort(changed)
	defer s.tidyIndexes()
	for n := range s.dir.chunks {
		if _, ok := list.chunks[n]; !ok { // all its series were deleted
			s.takePart(n, nil)
			delete(s.dir.chunks, n)
		}
	}
	for parts := [][]byte(nil); len(changed) > 0; {
		some := changed[:min(len(changed), atOnce(parts, batch))]
		changed = changed[len(some):]
		keys := make([]store.Key, len(some))
		for i, n := range some {
			keys[i] = partKey(groupDirectory, n)
		}
		var err error
		if parts, err = s.get(ctx, keys); err != nil {
			return err
		}
		for i, n := range some {
			if parts[i] == nil {
				missed = &keys[i]
				continue
			}
			version, all, err := s.dir.decodeSlots(parts[i], listOf(n))
			if err != nil {
				return err
			}
			if version != list.chunks[n] {
				missed = &keys[i]
				continue
			}
			s.takePart(n, all)
			if s.dir.chunks == nil {
				s.dir.chunks = make(chunkSeqs)
			}
			s.dir.chunks[n] = version
		}
	}
	if missed != nil {
		return s.missing(ctx, *missed, list.version)
	}
	return nil
}

// takePart takes over a part of the directory.
func (s *Syncer) takePart(n uint32, all []storedSlot) {
	s.mu.LockLast()
	defer s.mu.Unlock()
	first := n << chunkBits
	for i, r := range slices.Clone(s.dir.chunk(n)) {
		if r == nil {
			continue
		}
		if i < len(all) && all[i].fam == r.fam && all[i].since == r.since && all[i].born == r.born && string(all[i].labels) == r.labels {
			all[i].fam = nil // nothing new
			continue
		}
		s.deleted(r)
	}
	for i := range all {
		if all[i].fam != nil {
			s.take(&all[i], first+uint32(i))
		}
	}
	s.dirty[n] = true
}

// take takes over a number that others have assigned. mu is held.
func (s *Syncer) take(a *storedSlot, id uint32) {
	f, labels := a.fam, string(a.labels)
	s.changed(labels)
	if d := f.dying.Get(labels); d != nil && d.id == noID {
		// This process has deleted the series, which had no number until now.
		s.dir.assign(d, id, a.slot)
		s.endingNumbered(d)
		return
	}
	r := f.rows.Get(labels)
	if r != nil && r.id != noID { // it was deleted there, and came back here
		s.deleted(r)
		r = nil
	}
	again := s.removed.find(f, labels)
	switch {
	case r != nil && r.born != 0 && r.born == a.prev: // what this process knows was deleted
		s.detach(r)
		r = nil
	// The store has lost the deletion: it is published again.
	case again != 0 && a.born == again:
		d := &row{fam: f, labels: labels, id: noID, gone: true}
		s.dir.assign(d, id, a.slot)
		s.ending(d)
		return
	}
	if r == nil {
		r = f.row(labels)
	}
	s.dir.assign(r, id, a.slot)
	s.unqueue(r)
	if err := f.checkLabels(labels); err != nil { // the series keeps its number
		r.invalid, s.invalid = true, fmt.Errorf("directory: %w", err)
	}
	if r.own != nil {
		s.listOwn(r)
	}
	s.looseChanged = true
}

// listOwn adds a series of this process to the list of its chunk. mu is held.
func (s *Syncer) listOwn(r *row) {
	n := chunkOf(r.id)
	list := s.chunks[n]
	i, found := slices.BinarySearchFunc(list, r.id, byNumber)
	if !found {
		s.chunks[n] = slices.Insert(list, i, r)
	}
	s.newestOwn = max(s.newestOwn, r.since)
}

func byNumber(r *row, id uint32) int { return cmp.Compare(r.id, id) }

// unlistOwn removes a series, which still has its number, from the list of its chunk. mu is held.
func (s *Syncer) unlistOwn(r *row) {
	n := chunkOf(r.id)
	list := s.chunks[n]
	if i, found := slices.BinarySearchFunc(list, r.id, byNumber); found && list[i] == r {
		s.chunks[n] = slices.Delete(list, i, i+1)
	}
}

// change is a change to the directory that is being prepared.
type change struct {
	families []declaration
	parts    map[uint32]*slots
	assigned []*row
	freed    []*row
	passed   int // series of nextWaiting that were looked at
	size     int // approximate size of the parts, in bytes
}

const slotSize = 4 // bytes of a number, without its label text

// part returns a chunk to be changed.
func (c *change) part(d *directory, n uint32) *slots {
	if c.parts == nil {
		c.parts = make(map[uint32]*slots)
	}
	p := c.parts[n]
	if p == nil {
		p = d.slots(n)
		c.parts[n] = p
		for _, s := range p {
			if s.row != nil {
				c.size += slotSize + len(s.row.labels)
			}
		}
		c.size += 64
	}
	return p
}

// commitDirectory commits a change to the directory, and applies it to what this process knows.
func (s *Syncer) commitDirectory(ctx context.Context, c *change) error {
	version := s.dir.version + 1
	commit := &store.Commit{
		If:    map[string][]byte{headDirectory: s.dir.raw},
		Heads: make(map[string][]byte),
		Parts: make(map[store.Key][]byte),
	}
	next := s.dir.next(s.random() | 1)
	next.breaks = max(next.breaks, s.breaks)
	for _, d := range c.families {
		e := d.fam.entry(d.help)
		commit.Parts[partKey(groupFamilies, uint32(next.tally.n))] = e
		next.tally.add(e)
	}
	for n, p := range c.parts {
		empty := true
		for i := range p {
			r := p[i].row
			if r == nil {
				continue
			}
			empty = false
			if r.id == noID {
				if p[i] = (slot{r, version, r.born, r.prev}); r.born == 0 {
					p[i].born, p[i].prev = birthOf(version, next.token), s.removed.find(r.fam, r.labels)
				}
			}
		}
		commit.Parts[partKey(groupDirectory, n)] = p.encode(version)
		if next.chunks[n] = version; empty {
			delete(next.chunks, n)
		}
	}
	next.raw = next.encodeHead()
	commit.Parts[partKey(groupFamilies, listPart)] = next.encodeList()
	commit.Heads[headDirectory] = next.raw
	var deletions []byte
	if len(c.freed) > 0 {
		deletions = s.token()
		commit.Heads[headDeletions] = deletions
		commit.If[headDeletions] = s.deletionsRaw
	}
	if err := s.commit(ctx, commit); err != nil {
		return err
	}
	s.directoryRaw = next.raw
	if deletions != nil {
		s.deletionsRaw, s.seenDeletions = deletions, deletions
	}
	s.applyChange(c, next)
	return nil
}

// applyChange applies a change that was committed to what this process knows. Other calls may come
// in between: each series is in its old or its new state then.
func (s *Syncer) applyChange(c *change, next *directory) {
	s.mu.LockLast()
	d := &s.dir
	d.version, d.token, d.raw, d.tokens, d.breaks = next.version, next.token, next.raw, next.tokens, next.breaks
	d.chunks = next.chunks
	for _, f := range c.families {
		s.appendFamily(f.fam, f.help)
	}
	s.mu.Unlock()
	s.inStretches(c.freed, s.deleted)
	if len(c.freed) > 0 {
		s.tidyIndexes()
	}
	for n, p := range c.parts {
		s.mu.LockLast()
		for i := range p {
			r := p[i].row
			if r == nil || p[i].since != next.version {
				continue
			}
			d.assign(r, n<<chunkBits+uint32(i), p[i])
			s.unqueue(r)
			switch {
			case r.gone: // meanwhile
				s.endingNumbered(r)
			case r.own != nil:
				s.listOwn(r)
			}
		}
		s.mu.Unlock()
		s.dirty[n] = true
	}
	s.mu.LockLast()
	s.looseChanged = true
	s.mu.Unlock()
}
