//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// segment is a mapped file as a heap of records with a hash index. Records are found and created
// without waiting for other processes, so that none can hold up another, even if it is stopped or
// killed:
//
//  1. space is allocated on the disk, and size is raised;
//  2. space for the record is reserved by moving the tail with compare-and-swap;
//  3. the record is written there, where nobody reads yet;
//  4. it is linked at the head of its index chain by compare-and-swap on the bucket: now it exists.
//
// A process that dies in between leaves some unused space and nothing else. If another process has
// created the same record first, step 4 finds it, and the space is given back, or stays unused if
// more was reserved meanwhile. To make this rare, creators take turns with a lock. But correctness
// does not depend on it: a creator that does not get it within turnWait goes on without.
type segment struct {
	*header
	file *os.File
	mem  memory
	own  uint64 // id of this instance; 0 if it has none

	allocated atomic.Uint64         // bytes known to exist on the disk, which may be accessed
	highest   atomic.Uint64         // the highest end of a record that this process knows
	damage    atomic.Pointer[error] // the first damage that was found
	readers   readers               // calls in progress that may refer to records

	// the lock within this process, since file locks do not tell goroutines apart
	turn chan struct{}
	// set while holding turn: the file's descriptor must not be used any more
	closed           atomic.Bool
	lockSkippedUntil atomic.Int64 // Unix nanoseconds; until then nobody waits for the lock
}

const (
	// turnWait limits how long a creator waits for its turn, in case the lock's holder is
	// stopped or being killed, which takes the kernel a while. The lock is normally held for
	// microseconds.
	turnWait = 500 * time.Microsecond
	// lockBackoff is how long nobody waits for the lock after a wait has timed out.
	lockBackoff = 100 * time.Millisecond

	minGrowth = 64 << 10
	maxGrowth = 4 << 20
	maxText   = 1 << 20

	maxReserve = 1 << 20

	maxStrays = 4
)

func newSegment(f *os.File, h *header, mem memory) *segment {
	s := &segment{header: h, file: f, mem: mem, turn: make(chan struct{}, 1)}
	// the caller has checked that the file is at least that large
	s.allocated.Store(h.recordsAt)
	return s
}

// reach checks that everything below end may be accessed. What the file says about itself is
// trusted only up to the file's real size.
func (s *segment) reach(end uint64) error {
	if end <= s.allocated.Load() {
		return nil
	}
	size, err := sizeOf(s.file)
	if err != nil {
		return fmt.Errorf("shm: %w", err)
	}
	size = min(size, s.limit)
	if end > size {
		return fmt.Errorf("%w: %s: it refers to offset %d, but the file ends at %d", ErrFormat, s.file.Name(), end, size)
	}
	raise(&s.allocated, size)
	return nil
}

// raise sets w to v if it is lower.
func raise(w *atomic.Uint64, v uint64) {
	for old := w.Load(); old < v && !w.CompareAndSwap(old, v); old = w.Load() {
	}
}

// bucket returns the head of the chain for a hash.
func (s *segment) bucket(hash uint64) *atomic.Uint32 {
	return s.mem.u32(offIndex + 4*(hash&uint64(s.buckets-1)))
}

// errUnlinked ends a chain that does not lead to the expected record any more: that one has been
// taken out since.
var errUnlinked = errors.New("shm: the end of the chain was reached")

// chain iterates over the offsets of the records of a bucket from one to another, which is not
// included; 0 is the end of the chain. It ends with an error if the chain is damaged, and with
// errUnlinked if it does not lead to the other one.
func (s *segment) chain(bucket uint64, from, to uint32) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		// A damaged chain may be a cycle, which Brent's algorithm detects: it compares from
		// with an offset that is kept for ever more steps. It may also lead through the
		// records of other buckets. There can be one with a damaged hash, but if there are
		// many, all chains together would take too long.
		kept, left, times, strays := uint32(0), 1, 1, 0
		for from != to {
			off := uint64(from) * align
			var err error
			switch {
			case from == 0:
				err = errUnlinked
			case from == kept:
				err = fmt.Errorf("%w: %s: an index chain is damaged at offset %d", ErrFormat, s.file.Name(), off)
			case off < s.recordsAt:
				err = fmt.Errorf("%w: %s: the index refers to offset %d", ErrFormat, s.file.Name(), off)
			default:
				if err = s.reach(off + recHeader); err != nil || s.mem.u64(off+recHash).Load()&uint64(s.buckets-1) == bucket {
					break
				}
				if strays++; strays > maxStrays {
					err = fmt.Errorf("%w: %s: the chain of bucket %d leads through other buckets", ErrFormat, s.file.Name(), bucket)
				}
			}
			if !yield(off, err) || err != nil {
				return
			}
			if left--; left == 0 {
				times *= 2
				kept, left = from, times
			}
			from = s.mem.u32(off + recNext).Load()
		}
	}
}

// at decodes the record at an offset that was found in a chain.
func (s *segment) at(off uint64) (*record, error) {
	if err := s.reach(off + recHeader); err != nil {
		return nil, err
	}
	size := uint64(order.Uint32(s.mem[off+recSize:]))
	if err := s.reach(off + size); err != nil {
		return nil, err
	}
	r, err := s.mem.record(off, min(off+size, s.allocated.Load()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	raise(&s.highest, r.off+r.size)
	return r, nil
}

// find searches part of a chain for the record with the type, family and text of want. It returns
// nil if there is none. It skips records that gone, if it is not nil, says were deleted. Damaged
// records are skipped, and a damaged link ends the search: Sync reports the damage, and the record
// is created again at the head of the chain, so that counting goes on.
func (s *segment) find(want *record, from, to uint32, gone func(*record) bool) (*record, error) {
	for off, err := range s.chain(want.hash&uint64(s.buckets-1), from, to) {
		if err != nil {
			break
		}
		// The hash is compared first: decoding a record costs a checksum.
		if s.mem.u64(off+recHash).Load() != want.hash {
			continue
		}
		r, err := s.at(off)
		if err != nil {
			continue
		}
		if r.typ == want.typ && r.family == want.family && r.text == want.text {
			if r.words != want.words {
				return nil, fmt.Errorf("%w: %s: record at offset %d has %d words instead of %d", ErrFormat, s.file.Name(), off, r.words, want.words)
			}
			if gone == nil || !gone(r) {
				return r, nil
			}
		}
	}
	return nil, nil
}

// findOrCreate returns the record with the type, family and text of r, and creates it if there is
// none. Records that gone, if it is not nil, says were deleted, do not count. The caller has called
// readers.enter.
func (s *segment) findOrCreate(r *record, gone func(*record) bool) (*record, error) {
	if len(r.text)+len(r.extra) > maxText {
		return nil, fmt.Errorf("%w: %s: a text of %d bytes is too long: %.60q…", backend.ErrFull, s.file.Name(), len(r.text)+len(r.extra), r.text)
	}
	r.textLen, r.ext = uint32(len(r.text)), uint32(len(r.extra))
	r.size = r.need()
	r.hash = s.hashOf(r.typ, r.family, r.text)
	head := s.bucket(r.hash)
	seen := head.Load()
	if found, err := s.find(r, seen, 0, gone); found != nil || err != nil {
		return found, err
	}
	// When the file is full, do not wait for a turn in vain.
	most := s.maxEnd(r)
	full := s.mem.u64(offTail).Load()+r.size > most
	if full && !s.hasFree(r) {
		return nil, s.limitError(most)
	}
	locked, release := s.takeTurn()
	defer release()
	if s.closed.Load() {
		return nil, backend.ErrClosed
	}
	now := head.Load()
	if found, err := s.find(r, now, seen, gone); found != nil || err != nil {
		return found, err
	}
	if full && !locked {
		return nil, fmt.Errorf("%w: %s: another process has locked its free space", backend.ErrFull, s.file.Name())
	}
	reused := locked && s.popFree(r, full)
	if !reused {
		if err := s.reserve(r, most); err != nil {
			// others may have filled the file in the meantime
			if reused = locked && errors.Is(err, backend.ErrLimit) && s.popFree(r, true); !reused {
				return nil, err
			}
		}
	}
	s.mem.put(r, time.Now().UnixNano())
	if r.typ == typePart {
		s.push(s.mem.u32(uint64(r.family)*align+recParts), r)
	}
	if r.typ == typeSeries {
		// Before, so that no process knows fewer series than there are; and afterwards, so
		// that one that has looked in between looks again.
		s.changed(r.text)
		defer s.changed(r.text)
	}
	for seen = now; ; seen = now {
		s.mem.u32(r.off + recNext).Store(seen)
		// The swap makes the record visible only after all of its content.
		if head.CompareAndSwap(seen, uint32(r.off/align)) {
			raise(s.mem.u64(offTop), r.off+r.size)
			raise(&s.highest, r.off+r.size)
			return r, nil
		}
		now = head.Load()
		if found, err := s.find(r, now, seen, gone); found != nil || err != nil {
			switch {
			case r.typ == typePart: // it is reclaimed with its series
			case reused:
				s.mem.u64(offWaste).Add(r.size)
				s.pushFree(r.off, r.size)
			default:
				s.mem.u64(offTail).CompareAndSwap(r.off+r.size, r.off) // give back
			}
			return found, err
		}
	}
}

// maxEnd returns the offset at which r must end at the latest. The last part of the file is
// reserved for what is rare and would be missed most: families, series without labels and overflow
// series.
func (s *segment) maxEnd(r *record) uint64 {
	if (r.typ == typeSeries || r.typ == typePart) && !r.essential {
		return max(s.limit-min(s.limit/16, maxReserve), s.recordsAt+minGrowth)
	}
	return s.limit
}

func (s *segment) limitError(most uint64) error {
	return fmt.Errorf("%w: %w: %s has reached %d of its limit of %d bytes (limit= raises it when all processes have ended)",
		backend.ErrFull, backend.ErrLimit, s.file.Name(), min(s.mem.u64(offTail).Load(), most), s.limit)
}

// reserve takes space for r at the tail, which must end before most, and sets r's offsets.
func (s *segment) reserve(r *record, most uint64) error {
	r.textLen, r.ext = uint32(len(r.text)), uint32(len(r.extra))
	r.size = r.need()
	tail := s.mem.u64(offTail)
	for {
		r.off = s.end()
		if r.off%align != 0 || r.off < s.recordsAt || r.off > s.limit {
			return fmt.Errorf("%w: %s: invalid end of records %d", ErrFormat, s.file.Name(), r.off)
		}
		if r.off+r.size > most {
			return s.limitError(most)
		}
		if err := s.grow(r.off + r.size); err != nil {
			return err
		}
		if tail.CompareAndSwap(r.off, r.off+r.size) {
			r.layout()
			return nil
		}
	}
}

// end returns the end of the space given to records, as the tail says. If it is below the end of a
// record that is known to exist, the tail was damaged, and end repairs it.
func (s *segment) end() uint64 {
	// The tail is read last, since others may move it at any time, before they raise top.
	tail, known := s.mem.u64(offTail), s.highest.Load()
	if top := s.mem.u64(offTop).Load(); top > known && top%align == 0 && s.reach(top) == nil {
		known = top
	}
	end := tail.Load()
	if end >= known {
		return end
	}
	s.spoil(fmt.Errorf("%w: %s: the end of records was %d, but a record ends at %d", ErrFormat, s.file.Name(), end, known))
	raise(tail, known)
	return tail.Load()
}

// spoil records that the file was found damaged. When nobody has it open any more, the next process
// that opens it checks all of it.
func (s *segment) spoil(err error) {
	if err != nil && s.damage.CompareAndSwap(nil, &err) {
		s.mem.u64(offBoot).Store(0)
		s.mem.u64(offBoot + 8).Store(0)
	}
}

// damaged returns the first damage that was found.
func (s *segment) damaged() error {
	if err := s.damage.Load(); err != nil {
		return *err
	}
	return nil
}

// grow allocates the file up to end, in steps that grow with the file. Several processes may do
// this at once: allocating what is allocated already changes nothing.
func (s *segment) grow(end uint64) error {
	size := s.mem.u64(offSize).Load()
	if end <= size {
		if s.reach(end) == nil {
			return nil
		}
		size = s.allocated.Load() // the file was cut where it held no records
	}
	step := min(max(minGrowth, size/2), maxGrowth)
	target := min(max(end, size+step)+minGrowth-1, s.limit) &^ (minGrowth - 1)
	target = max(target, end)
	// A large step may not fit where a small one does.
	if err := allocate(s.file, size, target); err != nil {
		if target = end; allocate(s.file, size, target) != nil {
			return fmt.Errorf("shm: growing %s from %d to %d bytes: %w", s.file.Name(), size, end, err)
		}
	}
	raise(s.mem.u64(offSize), target)
	return s.reach(end)
}

// takeTurn takes the lock, or goes on without if that takes too long. The lock within the process
// is always taken, since a single goroutine cannot be stopped.
func (s *segment) takeTurn() (locked bool, release func()) {
	s.turn <- struct{}{}
	if !s.closed.Load() {
		now := time.Now()
		deadline := now.Add(turnWait)
		if now.UnixNano() < s.lockSkippedUntil.Load() {
			deadline = now
		}
		for wait := 20 * time.Microsecond; ; wait *= 2 {
			var err error
			if locked, err = lock(s.file, lockByte); locked || err != nil {
				break
			}
			if !time.Now().Before(deadline) {
				s.lockSkippedUntil.Store(time.Now().Add(lockBackoff).UnixNano())
				break
			}
			time.Sleep(min(wait, time.Until(deadline)))
		}
	}
	return locked, func() {
		if locked {
			unlock(s.file, lockByte)
		}
		<-s.turn
	}
}
