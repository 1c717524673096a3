//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// segment is a mapped file as an append-only log of records with a hash index. Records are found
// without a lock; they are created under the file's creation lock, in four steps, each of which leaves
// the file usable if the process dies after it:
//
//  1. room is allocated on the disk and its end is stored in size;
//  2. the record is written behind the tail, where nobody looks;
//  3. the tail is moved: the record is committed;
//  4. the record is put in front of its index chain, and linked is moved.
//
// Whoever takes the lock next finishes step 4 for a predecessor that died before it.
type segment struct {
	*header
	file *os.File
	mem  memory

	allocated atomic.Uint64 // what is known to exist on the disk, and may be touched

	creating  chan struct{} // the creation lock within this process, since file locks do not tell goroutines apart
	closed    atomic.Bool   // set under creating: the file's descriptor must not be used any more
	busyUntil atomic.Int64  // Unix nanoseconds: until then creation does not wait for the lock
}

const (
	// createWait is how long a creation waits for the creation lock. It is normally held for
	// microseconds; a process that was stopped while it holds it must not stop anybody else.
	createWait = 10 * time.Millisecond
	// busyTime is how long nobody waits at all after somebody has waited in vain.
	busyTime = 100 * time.Millisecond

	minGrowth = 64 << 10
	maxGrowth = 4 << 20
	maxText   = 1 << 20
)

func newSegment(f *os.File, h *header, mem memory) *segment {
	s := &segment{header: h, file: f, mem: mem, creating: make(chan struct{}, 1)}
	s.allocated.Store(h.recordsAt) // the caller has seen that the file is at least that large
	return s
}

func randomID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// tail returns the end of the committed records. What the file says is believed only as far as the
// file reaches.
func (s *segment) tail() (uint64, error) {
	end := s.mem.u64(offTail).Load()
	if end%align != 0 || end < s.recordsAt {
		return 0, fmt.Errorf("%w: %s: impossible end of records %d", ErrFormat, s.file.Name(), end)
	}
	return end, s.reach(end)
}

// reach makes sure that everything below end may be touched.
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
		return fmt.Errorf("%w: %s: records end at %d, the file at %d", ErrFormat, s.file.Name(), end, size)
	}
	for old := s.allocated.Load(); old < size && !s.allocated.CompareAndSwap(old, size); old = s.allocated.Load() {
	}
	return nil
}

// bucket returns the head of the chain for a hash.
func (s *segment) bucket(hash uint64) *atomic.Uint32 {
	return s.mem.u32(offIndex + 4*(hash&uint64(s.buckets-1)))
}

// find returns the committed record with the type, family and text of want, or nil.
func (s *segment) find(want *record) (*record, error) {
	end, err := s.tail()
	if err != nil {
		return nil, err
	}
	newer := end
	for at := s.bucket(want.hash).Load(); at != 0; {
		off := uint64(at) * align
		if off >= newer || off < s.recordsAt {
			if newer == end {
				// The tail was read before the bucket: the record is younger than that.
				if end, err = s.tail(); err != nil {
					return nil, err
				}
				if newer = end; off < newer && off >= s.recordsAt {
					continue
				}
			}
			// Chains lead to ever older records, which is also why this loop ends.
			return nil, fmt.Errorf("%w: %s: the index leads from %d to %d", ErrFormat, s.file.Name(), newer, off)
		}
		// The hash is compared first: decoding a record costs a checksum.
		if s.mem.u64(off+recHash).Load() == want.hash {
			r, err := s.mem.record(off, end)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.file.Name(), err)
			}
			if r.typ == want.typ && r.family == want.family && r.text == want.text {
				if r.words != want.words {
					return nil, fmt.Errorf("%w: %s: record at offset %d has %d words instead of %d", ErrFormat, s.file.Name(), off, r.words, want.words)
				}
				return r, nil
			}
		}
		newer, at = off, s.mem.u32(off+recNext).Load()
	}
	return nil, nil
}

// findOrCreate returns the record with the type, family and text of r, and creates r if there is none.
func (s *segment) findOrCreate(r *record) (*record, error) {
	if len(r.text)+len(r.extra) > maxText {
		return nil, fmt.Errorf("%w: %s: a text of %d bytes is too long: %.60q…", backend.ErrFull, s.file.Name(), len(r.text)+len(r.extra), r.text)
	}
	r.hash = s.hashOf(r.typ, r.family, r.text)
	if found, err := s.find(r); found != nil || err != nil {
		return found, err
	}
	if err := s.lock(); err != nil {
		return nil, err
	}
	defer s.unlock()
	end, err := s.tail()
	if err != nil {
		return nil, err
	}
	if err := s.repair(end); err != nil {
		return nil, err
	}
	if found, err := s.find(r); found != nil || err != nil {
		return found, err
	}
	r.off, r.textLen, r.ext = end, uint32(len(r.text)), uint32(len(r.extra))
	r.size = r.need()
	r.layout()
	if err := s.grow(end + r.size); err != nil {
		return nil, err
	}
	s.mem.put(r, time.Now().UnixNano())
	// The store orders the record's bytes before its becoming visible.
	s.mem.u64(offTail).Store(end + r.size)
	s.link(r.off, r.hash, end+r.size)
	return r, nil
}

// repair links records that a creator committed before it died. There can be one at most, unless the
// file was tampered with.
func (s *segment) repair(end uint64) error {
	for off := s.mem.u64(offLinked).Load(); off < end; {
		r, err := s.mem.record(off, end)
		if err != nil {
			return fmt.Errorf("%s: %w", s.file.Name(), err)
		}
		off += r.size
		s.link(r.off, r.hash, off)
	}
	return nil
}

// link puts a record in front of its chain. Doing it twice does no harm: the creator may have died
// after it, and nobody else can have changed the chain in between.
func (s *segment) link(off, hash, end uint64) {
	head, at := s.bucket(hash), uint32(off/align)
	if old := head.Load(); old != at {
		s.mem.u32(off + recNext).Store(old)
		head.Store(at)
	}
	s.mem.u64(offLinked).Store(end)
}

// grow sees to it that the file is allocated up to end, in steps that grow with the file.
func (s *segment) grow(end uint64) error {
	size := s.mem.u64(offSize).Load()
	if end <= size {
		return s.reach(end)
	}
	if end > s.limit {
		return fmt.Errorf("%w: %s has reached its limit of %d bytes", backend.ErrFull, s.file.Name(), s.limit)
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
	s.mem.u64(offSize).Store(target)
	return s.reach(end)
}

// lock takes the creation lock, or fails with backend.ErrBusy.
func (s *segment) lock() error {
	now := time.Now()
	deadline := now.Add(createWait)
	if now.UnixNano() < s.busyUntil.Load() {
		deadline = now
	}
	select {
	case s.creating <- struct{}{}:
	default:
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		select {
		case s.creating <- struct{}{}:
		case <-timer.C:
			return s.busy()
		}
	}
	if s.closed.Load() {
		<-s.creating
		return backend.ErrClosed
	}
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		ok, err := lock(s.file, lockByte)
		if ok {
			return nil
		}
		if err != nil {
			<-s.creating
			return fmt.Errorf("shm: locking %s: %w", s.file.Name(), err)
		}
		if !time.Now().Before(deadline) {
			<-s.creating
			return s.busy()
		}
		time.Sleep(wait)
	}
}

func (s *segment) busy() error {
	s.busyUntil.Store(time.Now().Add(busyTime).UnixNano())
	return fmt.Errorf("%w: %s: another process holds the lock for creation", backend.ErrBusy, s.file.Name())
}

func (s *segment) unlock() {
	unlock(s.file, lockByte)
	<-s.creating
}
