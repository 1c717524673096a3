//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"cmp"
	"fmt"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// The space of deleted series serves new ones while processes have the file open, although they may
// still refer to it:
//
//  1. A series whose words are all sealed never comes back in the same record. It is put on the
//     list of retired records.
//  2. All records of the list become the batch, of which there is one at a time.
//  3. Each record of the batch is taken out of its chain.
//  4. The batch gets a ticket.
//  5. Each instance that sees the ticket drops what refers to the batch's records: rows of pages,
//     instruments, calls in progress. A record that a goroutine may still be about to update is
//     marked as held. Then the instance notes in its slot that it has seen the ticket.
//  6. When all live instances have done so, the records become free space, except those that are
//     held, which go through all of this again.
//
// Everything but 1 and 5 is done under lockByte, which the kernel releases if the process dies;
// where it stopped, another one goes on. A process that dies leaves at most one record that is on
// no list. A process that is stopped holds up step 6.

const (
	// reclaimAtOnce records are handled before lockByte is released for a moment.
	reclaimAtOnce = 256
	// unlinked in the cursor says that no chain leads to the batch any more.
	unlinked = 1<<32 - 1

	// An instance that holds many records answers later, since they go through everything again
	// until the garbage collector has run: that takes a few percent of a processor.
	manyHeld, pausePerHeld, longestPause = 1000, 50 * time.Microsecond, 30 * time.Second
)

// Reclaim implements backend.Reclaimer.
func (b *Backend) Reclaim(release func([]backend.Retired)) {
	b.reclaiming.Lock()
	defer b.reclaiming.Unlock()
	b.buryUnused()
	for range 2 { // the only instance need not wait for the next call to answer its own batch
		b.acknowledge(release)
		for b.reclaimSome() {
		}
	}
}

// Enter implements backend.Reclaimer.
func (b *Backend) Enter() (leave func()) { return b.readers.enter() }

// Space implements backend.Sized.
func (b *Backend) Space() (used, wasted, limit uint64) {
	used = min(max(b.mem.u64(offTail).Load(), b.recordsAt), b.limit)
	return used, min(b.mem.u64(offWaste).Load(), used), b.limit
}

// acknowledge is step 5. It waits twice for calls in progress, by returning until they have ended:
// first for those that began before the ticket was seen, which may have found a record of the batch
// and be about to publish it, and then for those that have read it from what was published.
func (b *Backend) acknowledge(release func([]backend.Retired)) {
	ticket := b.mem.u64(offTicket).Load()
	if ticket == 0 || ticket <= b.seen || b.closed.Load() || time.Now().Before(b.pause) {
		return
	}
	if b.leaving != ticket {
		b.leaving, b.dropped, b.period = ticket, false, b.readers.turn()
	}
	if !b.readers.left(b.period) {
		return
	}
	if !b.dropped {
		list, offsets := b.dropRows()
		b.index.Tidy()
		if len(list) > 0 {
			release(list)
		}
		b.held = b.held[:0]
		for i, r := range list {
			if r.Held {
				b.held = append(b.held, offsets[i])
			}
		}
		b.dropped, b.period = true, b.readers.turn()
	}
	if !b.readers.left(b.period) {
		return
	}
	for _, off := range b.held {
		b.mem.u32(off + recHeld).Store(uint32(ticket))
	}
	if n := len(b.held); n >= manyHeld {
		b.pause = time.Now().Add(min(time.Duration(n)*pausePerHeld, longestPause))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed.Load() { // another process may have the slot by now
		b.mem.u64(b.instance(b.slot) + insSeen).Store(ticket)
		b.seen = ticket
	}
}

// dropRows removes the batch from what pages show and from what Sync remembers. It returns the
// series of the batch, and the offsets of their records.
func (b *Backend) dropRows() (list []backend.Retired, offsets []uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.mem.u64(offBatch).Load()
	for off, err := range b.list(uint32(batch), typeSeries) {
		if err != nil || !b.retired(off) {
			// If all others had seen the ticket before this instance joined, the batch
			// is being freed at this moment; otherwise it is damaged.
			if b.mem.u64(offBatch).Load() == batch {
				b.spoil(err)
			}
			break
		}
		b.forgetHead(off)
		r, err := b.at(off)
		if err != nil {
			b.spoil(err)
			continue
		}
		f, err := b.family(r.family)
		if f == nil || err != nil {
			continue
		}
		one := backend.Retired{Family: f.Family, Labels: r.text}
		if !f.Parts() && r.words > 0 {
			one.Words = append(one.Words, b.mem.u64(r.wordsAt))
		}
		for part, err := range b.parts(off) {
			if err != nil {
				b.spoil(err)
				break
			}
			b.forgetHead(part)
			if p, err := b.at(part); err == nil && p.words > 0 {
				one.Words = append(one.Words, b.mem.u64(p.wordsAt))
			}
		}
		if len(list)%reclaimAtOnce == reclaimAtOnce-1 { // lets others in
			b.mu.Unlock()
			b.mu.Lock()
		}
		b.index.RemoveWords(f.entry, r.text, one.Words)
		list = append(list, one)
		offsets = append(offsets, off)
	}
	return list, offsets
}

// forgetHead makes Sync read a chain from the beginning if the record at off, which is going to be
// reused, is where it would stop.
func (b *Backend) forgetHead(off uint64) {
	bucket := b.mem.u64(off+recHash).Load() & uint64(b.buckets-1)
	if b.readHeads[bucket] == uint32(off/align) {
		b.readHeads[bucket] = 0
		b.reread[bucket] = true
	}
}

// reclaimSome does some of steps 2, 3, 4 and 6. It reports whether more can be done at once. It
// does nothing if another process or goroutine has the lock.
func (s *segment) reclaimSome() (more bool) {
	batch := s.mem.u64(offBatch)
	if uint32(s.mem.u64(offRetired).Load()) == 0 && batch.Load() == 0 {
		return false
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	default:
		return false
	}
	if s.closed.Load() {
		return false
	}
	if ok, err := lock(s.file, lockByte); !ok || err != nil {
		return false
	}
	defer unlock(s.file, lockByte)
	ticket, cursor := s.mem.u64(offTicket), s.mem.u64(offCursor)
	switch {
	case batch.Load() == 0:
		ticket.Store(0)
		cursor.Store(0)
		return s.beginBatch()
	case cursor.Load() == 0: // a process died in beginBatch
		for off, err := range s.list(uint32(s.mem.u64(offRetired).Load()), typeSeries) {
			if err == nil && off/align == batch.Load() {
				return s.beginBatch()
			}
		}
		cursor.Store(batch.Load())
		return true
	case ticket.Load() == 0:
		return s.unlinkBatch()
	}
	return s.allSeen(ticket.Load()) && s.freeBatch(uint32(ticket.Load()))
}

// beginBatch makes the retired records the batch.
func (s *segment) beginBatch() (more bool) {
	batch, head := s.mem.u64(offBatch), s.mem.u64(offRetired)
	for {
		old := head.Load()
		if uint32(old) == 0 {
			batch.Store(0)
			return false
		}
		batch.Store(uint64(uint32(old)))
		if head.CompareAndSwap(old, (old>>32+1)<<32) {
			s.mem.u64(offCursor).Store(uint64(uint32(old)))
			return true
		}
	}
}

// unlinkBatch takes records of the batch out of their chains, and draws the batch's ticket when
// that is done. It does nothing to a list that is not one of retired series: its space is lost.
func (s *segment) unlinkBatch() (more bool) {
	cursor, n := s.mem.u64(offCursor), 0
	if batch := s.mem.u64(offBatch); cursor.Load() == batch.Load() {
		for off, err := range s.list(uint32(batch.Load()), typeSeries) {
			if err == nil && !s.retired(off) {
				err = fmt.Errorf("%w: %s: the record at offset %d is not retired", ErrFormat, s.file.Name(), off)
			}
			if err != nil {
				s.spoil(err)
				batch.Store(0)
				return false
			}
		}
	}
	if at := cursor.Load(); at != unlinked {
		for off, err := range s.list(uint32(at), typeSeries) {
			if err != nil {
				s.spoil(err)
				break
			}
			if n == reclaimAtOnce {
				cursor.Store(off / align)
				return true
			}
			n++
			for part, err := range s.parts(off) {
				if err != nil {
					s.spoil(err)
					break
				}
				s.mem.u32(part + recRetired).Store(1) // tells Sync why it is gone
				s.unlink(part)
			}
			s.unlink(off)
		}
		cursor.Store(unlinked)
	}
	s.mem.u64(offTicket).Store(s.mem.u64(offTickets).Add(1))
	return true
}

// unlink takes the record at off out of its chain, unless it is not in it. Other processes may
// insert records at the head meanwhile, but nobody else takes any out.
func (s *segment) unlink(off uint64) {
	hash, ref := s.mem.u64(off+recHash).Load(), uint32(off/align)
	head, next := s.bucket(hash), s.mem.u32(off+recNext).Load()
	for {
		at := head.Load()
		if at == ref {
			if head.CompareAndSwap(ref, next) {
				return
			}
			continue
		}
		last := uint64(0)
		for before, err := range s.chain(hash&uint64(s.buckets-1), at, ref) {
			if err == errUnlinked {
				return
			} else if err != nil {
				s.spoil(err)
				return
			}
			last = before
		}
		s.mem.u32(last + recNext).Store(next)
		return
	}
}

// allSeen reports whether all live instances have seen a ticket.
func (s *segment) allSeen(ticket uint64) bool {
	for i := range int(s.instances) {
		at := s.instance(i)
		id := s.mem.u64(at + insID).Load()
		// An instance that has drawn its id but not stored it yet has not looked at any
		// record.
		if id != 0 && id < ticket && s.mem.u64(at+insSeen).Load() < ticket && (id == s.own || idLocked(s.file, id)) {
			return false
		}
	}
	return true
}

// freeBatch makes free space of records of the batch. A record leaves the batch before it becomes
// free, so that a process that dies in between cannot make it free twice.
func (s *segment) freeBatch(ticket uint32) (more bool) {
	batch, n := s.mem.u64(offBatch), 0
	for off, err := range s.list(uint32(batch.Load()), typeSeries) {
		if err == nil && !s.retired(off) {
			err = fmt.Errorf("%w: %s: the record at offset %d is not retired", ErrFormat, s.file.Name(), off)
		}
		if err != nil {
			s.spoil(err)
			break
		}
		if n == reclaimAtOnce {
			return true
		}
		n++
		batch.Store(uint64(s.mem.u32(off + recLink).Load()))
		if s.mem.u32(off+recHeld).Load() == ticket || !s.partsUnlinked(off) {
			s.relist(off)
			continue
		}
		s.free(off)
	}
	batch.Store(0)
	return false
}

// free makes free space of the record of a series and of those of its parts, unless any of them is
// damaged.
func (s *segment) free(off uint64) {
	series, err := s.at(off)
	list := []*record{series}
	for part, partErr := range s.parts(off) {
		var r *record
		if partErr == nil {
			r, partErr = s.at(part)
		}
		if err = cmp.Or(err, partErr); err != nil {
			break
		}
		list = append(list, r)
		s.mem.u64(offWaste).Add(r.size)
	}
	if err != nil {
		s.spoil(err)
		return
	}
	// Before the records change, which readers that are no instances may be looking at.
	s.mem.u64(offReused).Add(1)
	for _, r := range list {
		s.pushFree(r.off, r.size)
	}
}

// partsUnlinked reports whether no chain leads to the parts of the series at off. A part that was
// made while the series was being taken out of its chain is still in its own.
func (s *segment) partsUnlinked(off uint64) bool {
	for part, err := range s.parts(off) {
		if err == nil && !s.retired(part) {
			return false
		}
	}
	return true
}
