//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// How series are deleted: their words are sealed, and their records retired.

// gone reports whether the series of r was deleted. If its deletion is not complete, gone completes
// it: the process that began it may be dead, and the series is about to get another record.
func (b *Backend) gone(f *backend.Family, r *record) bool {
	if b.retired(r.off) {
		b.sealParts(f, r)
		return true
	}
	if f.Parts() || f.Block.Role == backend.ExemplarRole {
		return false
	}
	words := b.mem.words(r.wordsAt, r.words)
	for i := range words {
		if f.SealedAt(words, i) {
			b.bury(f, r)
			return true
		}
	}
	return false
}

// bury deletes a series for good, and reports whether it counted until now. Parts that other
// processes are about to add are sealed, too: an instance looks for the mark after it has made its
// part count.
func (b *Backend) bury(f *backend.Family, r *record) (counted bool) {
	if !f.Parts() {
		counted = f.Seal(b.mem.words(r.wordsAt, r.words))
	}
	b.sealParts(f, r)
	b.retire(r)
	b.sealParts(f, r)
	b.changed(r.text)
	return counted
}

// sealParts seals all parts of a series.
func (b *Backend) sealParts(f *backend.Family, r *record) {
	if !f.Parts() {
		return
	}
	b.anyPart(r.off, func(words backend.Words) bool {
		if n := f.Words(); len(words) == n+1 {
			f.Seal(words[:n])
		}
		return false
	})
}

// deleteRow deletes a series that Walk has returned, and reports whether it counted until now.
func (b *Backend) deleteRow(g *backend.Group, i int) (counted bool) {
	var off uint64
	if g.Parts == nil {
		off = b.mem.offsetOf(g.Series[i].Words) - recHeader
	} else {
		for _, p := range g.Parts[i].List() {
			counted = g.Family.Seal(p.Words) && p.Live() || counted
			off = b.seriesOf(p.Words)
		}
	}
	r, err := b.at(off)
	if err != nil || r.typ != typeSeries || r.text != g.Series[i].Labels {
		// The record was damaged after it was read. Its words still count.
		if g.Parts == nil {
			counted = g.Family.Seal(g.Series[i].Words)
		}
		return counted
	}
	return b.bury(g.Family, r) || counted
}

// retired reports whether the record at off is that of a deleted series.
func (s *segment) retired(off uint64) bool { return s.mem.u32(off+recRetired).Load()&1 != 0 }

// touch changes the record at off, so that others who have looked at it before cannot retire it. It
// returns false if it is retired already.
func (s *segment) touch(off uint64) bool {
	w := s.mem.u32(off + recRetired)
	for {
		old := w.Load()
		if old&1 != 0 {
			return false
		}
		if w.CompareAndSwap(old, old+2) {
			return true
		}
	}
}

// retire puts a deleted series on the list of retired records. Its words are sealed already.
func (s *segment) retire(r *record) {
	w := s.mem.u32(r.off + recRetired)
	for {
		old := w.Load()
		if old&1 != 0 {
			return
		}
		if w.CompareAndSwap(old, old|1) {
			s.pushRetired(r)
			return
		}
	}
}

func (s *segment) pushRetired(r *record) {
	s.mem.u64(offWaste).Add(r.size)
	s.relist(r.off)
}

// relist puts the record at off on the list of retired records.
func (s *segment) relist(off uint64) {
	head := s.mem.u64(offRetired)
	for {
		old := head.Load()
		s.mem.u32(off + recLink).Store(uint32(old))
		if head.CompareAndSwap(old, (old>>32+1)<<32|off/align) {
			return
		}
	}
}

// push adds r to the list that begins at head.
func (s *segment) push(head *atomic.Uint32, r *record) {
	for {
		old := head.Load()
		s.mem.u32(r.off + recLink).Store(old)
		if head.CompareAndSwap(old, uint32(r.off/align)) {
			return
		}
	}
}

// list iterates over records that are linked with each other. It ends with an error if that is not
// a list of records of this type. The next record is read before a record is yielded.
func (s *segment) list(ref uint32, typ uint16) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		most := (s.mem.u64(offSize).Load() - s.recordsAt) / recHeader
		for n := uint64(0); ref != 0; n++ {
			off := uint64(ref) * align
			err := s.reach(off + recHeader)
			if err == nil && (off < s.recordsAt || order.Uint16(s.mem[off+recType:]) != typ || n > most) {
				err = fmt.Errorf("%w: %s: a list of records is damaged at offset %d", ErrFormat, s.file.Name(), off)
			}
			if err != nil {
				yield(off, err)
				return
			}
			ref = s.mem.u32(off + recLink).Load()
			if !yield(off, nil) {
				return
			}
		}
	}
}

// buryInterval is how often an instance looks for series that only dead processes had.
const buryInterval = 30 * time.Second

// buryUnused retires series that no live process has a part of.
func (b *Backend) buryUnused() {
	if now := time.Now(); now.Sub(b.buried) < buryInterval {
		return
	} else if b.buried = now; errors.Is(b.Sync(context.Background()), backend.ErrClosed) {
		return
	}
	defer b.readers.enter()()
	for _, g := range b.Walk() {
		if g.Parts == nil {
			continue
		}
		for i := range g.Series {
			if list := g.Parts[i].List(); len(list) > 0 && !slices.ContainsFunc(list, func(p backend.Part) bool { return counts(g.Family, &p) }) {
				b.buryIfUnused(g.Family, b.seriesOf(list[0].Words))
			}
		}
	}
}

// counts reports whether a part is on pages. In a sum, dead processes leave a zero.
func counts(f *backend.Family, p *backend.Part) bool {
	return (p.Live() || f.Mode == backend.Sum) && !f.Sealed(p.Words)
}

// buryIfUnused retires the series at off, unless a part of it counts. If an instance makes one
// count meanwhile, touch makes it fail.
func (b *Backend) buryIfUnused(f *backend.Family, off uint64) {
	if b.reach(off+recHeader) != nil {
		return
	}
	w := b.mem.u32(off + recRetired)
	old := w.Load()
	r, err := b.at(off)
	if err != nil || r.typ != typeSeries || old&1 != 0 {
		return
	}
	n := f.Words()
	if b.anyPart(off, func(words backend.Words) bool {
		owner := words[len(words)-1].Load() // 0: it never counted
		return len(words) != n+1 || owner != 0 && (f.Mode == backend.Sum || b.owned(owner)) && !f.Sealed(words[:n])
	}) {
		return
	}
	if w.CompareAndSwap(old, old|1) {
		b.pushRetired(r)
	}
}

// parts iterates over the parts of the series at off.
func (s *segment) parts(off uint64) iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		for part, err := range s.list(s.mem.u32(off+recParts).Load(), typePart) {
			if err == nil && uint64(order.Uint32(s.mem[part+recFamily:]))*align != off {
				err = fmt.Errorf("%w: %s: the record at offset %d is not a part of that at %d", ErrFormat, s.file.Name(), part, off)
			}
			if !yield(part, err) || err != nil {
				return
			}
		}
	}
}

// anyPart reports whether something is true of the words of any part of the series at off, the last
// of which is the part's owner.
func (b *Backend) anyPart(off uint64, is func(backend.Words) bool) bool {
	for part, err := range b.parts(off) {
		if err != nil {
			b.spoil(err)
			return false
		}
		n := order.Uint32(b.mem[part+recWords:])
		if n > 0 && b.reach(part+recHeader+8*uint64(n)) == nil && is(b.mem.words(part+recHeader, n)) {
			return true
		}
	}
	return false
}

// seriesOf returns the offset of the series that a part belongs to.
func (b *Backend) seriesOf(part backend.Words) uint64 {
	return uint64(order.Uint32(b.mem[b.mem.offsetOf(part)-recHeader+recFamily:])) * align
}
