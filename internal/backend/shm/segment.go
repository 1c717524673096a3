//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// segment is a mapped file as a heap of records with a hash index. Records are found and created without
// waiting for anybody, so that no process can hold up another, however it is stopped or killed:
//
//  1. space is allocated on the disk, and size is moved;
//  2. space for the record is taken by moving the tail with compare-and-swap;
//  3. the record is written there, where nobody looks;
//  4. it is put in front of its index chain by compare-and-swap on the bucket: now it exists.
//
// A process that dies on the way leaves some unused space and nothing else. If another process was quicker
// with the same record, step 4 finds it, and the space is given back, or left unused if somebody has taken
// more meanwhile. So that this is rare, creators take turns by a lock. But the lock protects nothing:
// who does not get it within turnWait goes on without.
type segment struct {
	*header
	file *os.File
	mem  memory

	allocated atomic.Uint64 // what is known to exist on the disk, and may be touched

	turn     chan struct{} // the lock within this process, since file locks do not tell goroutines apart
	closed   atomic.Bool   // set while holding turn: the file's descriptor must not be used any more
	rudeTill atomic.Int64  // Unix nanoseconds: until then nobody waits for the lock
}

const (
	// turnWait is how long a creator waits for its turn, also if the one before it was stopped or is being killed,
	// which takes the kernel a while. The lock is normally held for microseconds.
	turnWait = 500 * time.Microsecond
	// rudeTime is how long nobody waits after somebody has waited in vain.
	rudeTime = 100 * time.Millisecond

	minGrowth = 64 << 10
	maxGrowth = 4 << 20
	maxText   = 1 << 20

	maxReserve = 1 << 20
)

func newSegment(f *os.File, h *header, mem memory) *segment {
	s := &segment{header: h, file: f, mem: mem, turn: make(chan struct{}, 1)}
	s.allocated.Store(h.recordsAt) // the caller has seen that the file is at least that large
	return s
}

// reach makes sure that everything below end may be touched: what the file says of itself is believed
// only as far as the file reaches.
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
		return fmt.Errorf("%w: %s: something should be at %d, the file ends at %d", ErrFormat, s.file.Name(), end, size)
	}
	raise(&s.allocated, size)
	return nil
}

// raise moves w up to v.
func raise(w *atomic.Uint64, v uint64) {
	for old := w.Load(); old < v && !w.CompareAndSwap(old, v); old = w.Load() {
	}
}

// bucket returns the head of the chain for a hash.
func (s *segment) bucket(hash uint64) *atomic.Uint32 {
	return s.mem.u32(offIndex + 4*(hash&uint64(s.buckets-1)))
}

// chain ranges over the offsets of the records from one to another, which is not part of it; 0 is the
// end of the chain. The last error says that the chain leads nowhere.
func (s *segment) chain(from, to uint32) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		// A damaged chain may be a circle. By Brent's method, from meets an offset that is kept for ever
		// longer times.
		kept, left, times := uint32(0), 1, 1
		for from != to {
			off := uint64(from) * align
			err := s.reach(off + recHeader)
			switch {
			case from == 0 || from == kept:
				err = fmt.Errorf("%w: %s: a chain of the index goes astray at offset %d", ErrFormat, s.file.Name(), off)
			case off < s.recordsAt:
				err = fmt.Errorf("%w: %s: the index leads to offset %d", ErrFormat, s.file.Name(), off)
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

// at decodes the record at an offset that a chain has led to.
func (s *segment) at(off uint64) (*record, error) {
	size := uint64(order.Uint32(s.mem[off+recSize:]))
	if err := s.reach(off + size); err != nil {
		return nil, err
	}
	r, err := s.mem.record(off, min(off+size, s.allocated.Load()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	return r, nil
}

// find returns the record with the type, family and text of want from a part of a chain, or nil. What is
// damaged is passed over, and cuts the chain short if its link is: Sync reports it, and the record is made
// again in front of it, so that counting goes on.
func (s *segment) find(want *record, from, to uint32) (*record, error) {
	for off, err := range s.chain(from, to) {
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
			return r, nil
		}
	}
	return nil, nil
}

// findOrCreate returns the record with the type, family and text of r, and creates r if there is none.
func (s *segment) findOrCreate(r *record) (*record, error) {
	if len(r.text)+len(r.extra) > maxText {
		return nil, fmt.Errorf("%w: %s: a text of %d bytes is too long: %.60q…", backend.ErrFull, s.file.Name(), len(r.text)+len(r.extra), r.text)
	}
	r.textLen, r.ext = uint32(len(r.text)), uint32(len(r.extra))
	r.hash = s.hashOf(r.typ, r.family, r.text)
	head := s.bucket(r.hash)
	seen := head.Load()
	if found, err := s.find(r, seen, 0); found != nil || err != nil {
		return found, err
	}
	// When there is no room any more, who asks for it should not take turns.
	most := s.roomFor(r)
	if s.mem.u64(offTail).Load()+r.need() > most {
		return nil, s.limitError(most)
	}
	release := s.takeTurn()
	defer release()
	if s.closed.Load() {
		return nil, backend.ErrClosed
	}
	now := head.Load()
	if found, err := s.find(r, now, seen); found != nil || err != nil {
		return found, err
	}
	if err := s.take(r, most); err != nil {
		return nil, err
	}
	s.mem.put(r, time.Now().UnixNano())
	for seen = now; ; seen = now {
		s.mem.u32(r.off + recNext).Store(seen)
		// The swap orders all that was written to the record before its becoming visible.
		if head.CompareAndSwap(seen, uint32(r.off/align)) {
			return r, nil
		}
		now = head.Load()
		if found, err := s.find(r, now, seen); found != nil || err != nil {
			s.mem.u64(offTail).CompareAndSwap(r.off+r.size, r.off) // give back
			return found, err
		}
	}
}

// roomFor returns up to where r may be put. The last part of a file is kept for what there is little of and
// would be missed most: the families themselves, series without labels and overflow series.
func (s *segment) roomFor(r *record) uint64 {
	if (r.typ == typeSeries || r.typ == typePart) && !r.precious {
		return max(s.limit-min(s.limit/16, maxReserve), s.recordsAt+minGrowth)
	}
	return s.limit
}

func (s *segment) limitError(most uint64) error {
	return fmt.Errorf("%w: %w: %s has reached %d of its limit of %d bytes (limit= raises it when all processes have ended)",
		backend.ErrFull, backend.ErrLimit, s.file.Name(), min(s.mem.u64(offTail).Load(), most), s.limit)
}

// take takes space for r, which must end before most, behind the tail, and fills in where it is.
func (s *segment) take(r *record, most uint64) error {
	r.textLen, r.ext = uint32(len(r.text)), uint32(len(r.extra))
	r.size = r.need()
	tail := s.mem.u64(offTail)
	for {
		r.off = tail.Load()
		if r.off%align != 0 || r.off < s.recordsAt || r.off > s.limit {
			return fmt.Errorf("%w: %s: impossible end of records %d", ErrFormat, s.file.Name(), r.off)
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

// grow sees to it that the file is allocated up to end, in steps that grow with the file. Several
// processes may do so at once: allocating what is allocated changes nothing.
func (s *segment) grow(end uint64) error {
	size := s.mem.u64(offSize).Load()
	if end <= size {
		if s.reach(end) == nil {
			return nil
		}
		size = s.allocated.Load() // the end of the file was lost, where no record was
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

// takeTurn takes the lock, or does without if it takes too long. The lock within the process is always
// taken: goroutines cannot be stopped one by one.
func (s *segment) takeTurn() (release func()) {
	s.turn <- struct{}{}
	locked := false
	if !s.closed.Load() {
		now := time.Now()
		deadline := now.Add(turnWait)
		if now.UnixNano() < s.rudeTill.Load() {
			deadline = now
		}
		for wait := 20 * time.Microsecond; ; wait *= 2 {
			var err error
			if locked, err = lock(s.file, lockByte); locked || err != nil {
				break
			}
			if !time.Now().Before(deadline) {
				s.rudeTill.Store(time.Now().Add(rudeTime).UnixNano())
				break
			}
			time.Sleep(min(wait, time.Until(deadline)))
		}
	}
	return func() {
		if locked {
			unlock(s.file, lockByte)
		}
		<-s.turn
	}
}
