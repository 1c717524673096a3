//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"fmt"
	"sync/atomic"
)

// Free records: lists of them by size.

// freeList returns the head of the list of free records of a size, or nil if there is none.
func (s *segment) freeList(size uint64) *atomic.Uint32 {
	if class := size / align; class < numFree {
		return s.mem.u32(offFree + 4*class)
	}
	return nil
}

// pushFree makes the space of a record free. The caller holds lockByte.
func (s *segment) pushFree(off, size uint64) {
	head := s.freeList(size)
	if head == nil || size < recHeader || size%align != 0 {
		return
	}
	p := s.mem[off : off+recHeader]
	clear(p)
	order.PutUint32(p[recSize:], uint32(size))
	order.PutUint16(p[recType:], typeFree)
	order.PutUint64(p[recHash:], off/align)
	order.PutUint32(p[recFamily:], head.Load())
	order.PutUint32(p[recSum:], checksum(p, "", ""))
	head.Store(uint32(off / align))
}

// hasFree reports whether there may be free space for r.
func (s *segment) hasFree(r *record) bool {
	if r.typ != typeSeries && r.typ != typePart {
		return false
	}
	for size := r.size; size/align < numFree; size += align {
		if s.freeList(size).Load() != 0 {
			return true
		}
	}
	return false
}

// popFree takes free space for r, if there is any, and sets r's offsets. Only if larger is set does
// it use a part of a larger space. The caller holds lockByte.
func (s *segment) popFree(r *record, larger bool) bool {
	if r.typ != typeSeries && r.typ != typePart {
		return false // help texts must have ascending offsets, and the others are few
	}
	for size := r.size; size/align < numFree; size += align {
		if off := s.popSize(size); off != 0 {
			if size > r.size {
				s.pushFree(off+r.size, size-r.size)
			}
			r.off = off
			r.layout()
			s.mem.u64(offReused).Add(1)
			s.mem.u64(offWaste).Add(-r.size)
			return true
		}
		if !larger {
			break
		}
	}
	return false
}

// popSize takes a free record of exactly that size and returns its offset, or 0. Nothing in the
// file is trusted to be free unless it says so itself.
func (s *segment) popSize(size uint64) uint64 {
	head := s.freeList(size)
	if head == nil || head.Load() == 0 {
		return 0
	}
	ref := head.Load()
	off := uint64(ref) * align
	err := s.reach(off + size)
	if err == nil {
		p := s.mem[off : off+recHeader]
		if off < s.recordsAt || order.Uint16(p[recType:]) != typeFree || uint64(order.Uint32(p[recSize:])) != size ||
			order.Uint64(p[recHash:]) != uint64(ref) || order.Uint32(p[recSum:]) != checksum(p, "", "") {
			err = fmt.Errorf("%w: %s: there is no free record of %d bytes at offset %d", ErrFormat, s.file.Name(), size, off)
		}
	}
	if err != nil {
		s.spoil(err)
		head.Store(0)
		return 0
	}
	head.Store(order.Uint32(s.mem[off+recFamily:]))
	return off
}
