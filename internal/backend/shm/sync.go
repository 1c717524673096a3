//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// family is a family that was read from the file.
type family struct {
	*backend.Family
	entry    *index.Family
	declared []declaration
}

// declaration is the content of a record of typeDeclared.
type declaration struct {
	first   int // first slot of the group
	tickets backend.Words
}

// Sync implements backend.Backend: it reads the records that were added since the last call. It
// looks at every index bucket, which takes some microseconds in all. Damaged records are skipped.
// The error says that the file was removed or replaced, or else is the first damage that was ever
// found; in both cases, everything that can be read was read.
func (b *Backend) Sync(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return backend.ErrClosed
	}
	var removed error
	if b.place.lost(b.file) {
		removed = fmt.Errorf("shm: %s was removed or replaced while it was open: other processes may use another file; restart this one", b.Path())
	}
	defer b.readers.enter()()
	var fresh []uint64
	for i := range b.readHeads {
		head := b.mem.u32(offIndex + 4*uint64(i)).Load()
		if head == b.readHeads[i] {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		stop, again := b.readHeads[i], b.reread[uint64(i)]
		fresh, ok := b.readChain(fresh[:0], uint64(i), head, stop)
		if !ok {
			fresh, _ = b.readChain(fresh[:0], uint64(i), head, 0)
			again = true
		}
		for _, off := range fresh {
			b.spoil(b.read(off, uint64(i), again))
		}
		b.readHeads[i] = head
		delete(b.reread, uint64(i))
	}
	ids := make(map[int]uint64)
	for slot, instance := range b.partOwners {
		instance.ID.Store(b.liveID(slot, ids))
	}
	for _, list := range b.byName {
		if len(list) < 2 {
			continue
		}
		for _, f := range list {
			live, last := b.lastDeclared(f, ids)
			if live > 0 {
				last = live | 1<<63
			}
			b.index.SetOrder(f.entry, last)
		}
	}
	return cmp.Or(removed, b.damaged())
}

// readChain appends the offsets of the records of a bucket to list. ok is false if stop, where the
// chain was expected to lead, was deleted and taken out of it.
func (b *Backend) readChain(list []uint64, bucket uint64, head, stop uint32) (_ []uint64, ok bool) {
	for off, err := range b.chain(bucket, head, stop) {
		if err == errUnlinked && b.reach(uint64(stop)*align+recHeader) == nil && b.retired(uint64(stop)*align) {
			return list, false
		}
		if err != nil {
			if err == errUnlinked {
				err = fmt.Errorf("%w: %s: the chain of bucket %d does not lead to offset %d any more", ErrFormat, b.Path(), bucket, uint64(stop)*align)
			}
			b.spoil(err)
			// The chain may have looped before the error was noticed.
			slices.Sort(list)
			return slices.Compact(list), true
		}
		list = append(list, off)
	}
	return list, true
}

// liveID returns the id of the live instance in a slot, or 0 if there is none. ids caches the
// results.
func (b *Backend) liveID(slot int, ids map[int]uint64) uint64 {
	id, ok := ids[slot]
	if !ok {
		id = b.mem.u64(b.instance(slot) + insID).Load()
		if id == b.dead[slot] {
			id = 0
		} else if !b.alive(id) {
			b.dead[slot] = id // saves the system call from now on
			id = 0
		}
		ids[slot] = id
	}
	return id
}

// lastDeclared returns the highest ticket with which a live instance has declared a family, or 0 if
// none has, and the highest ticket of any instance.
func (b *Backend) lastDeclared(f *family, ids map[int]uint64) (live, last uint64) {
	for _, d := range f.declared {
		for i := range d.tickets {
			ticket := d.tickets[i].Load()
			if ticket == 0 || d.first+i >= int(b.instances) {
				continue
			}
			last = max(last, ticket)
			if id := b.liveID(d.first+i, ids); id != 0 && ticket > id {
				live = max(live, ticket)
			}
		}
	}
	return live, last
}

// read adds a record that was found in a bucket to the index. If again is set, it may have been
// added before.
func (b *Backend) read(off, bucket uint64, again bool) error {
	r, err := b.at(off)
	if err != nil {
		return err
	}
	if r.hash&uint64(b.buckets-1) != bucket {
		return fmt.Errorf("%w: %s: the record at offset %d is in the wrong bucket", ErrFormat, b.Path(), off)
	}
	switch r.typ {
	case typeFamily:
		_, err = b.family(uint32(off / align))
	case typeHelp, typeSeries:
		var f *family
		if f, err = b.family(r.family); f == nil || err != nil {
			break
		}
		if r.typ == typeHelp {
			b.index.SetHelp(f.entry, r.text, off)
			break
		}
		if _, err = f.LabelValues(r.text); err != nil {
			break
		}
		if f.Parts() && r.words == 0 {
			break // its parts have records of their own
		}
		if int(r.words) != f.Words() || f.Parts() {
			err = fmt.Errorf("%w: record at offset %d has %d words, family %s needs %d", ErrFormat, off, r.words, f.Name, f.Words())
			break
		}
		words := b.mem.words(r.wordsAt, r.words)
		if b.retired(off) || again && known(&b.index, f, r.text, words) {
			break
		}
		b.index.Add(f.entry, backend.Series{Labels: r.text, Words: words})
	case typeDeclared:
		f, familyErr := b.family(r.family)
		group, ok := declaredGroup(r, b.instances)
		switch {
		case f == nil || familyErr != nil:
			err = familyErr
		case !ok:
			err = fmt.Errorf("%w: %s: the record at offset %d is not a valid declaration", ErrFormat, b.Path(), off)
		default:
			d := declaration{group * declaredSlots, b.mem.words(r.wordsAt, r.words)}
			if !again || !slices.ContainsFunc(f.declared, func(o declaration) bool { return o.first == d.first }) {
				f.declared = append(f.declared, d)
			}
		}
	case typePart:
		err = b.readPart(r, again)
	}
	return err // record types of later minor versions are skipped
}

func (b *Backend) readPart(r *record, again bool) error {
	off := uint64(r.family) * align
	err := b.reach(off + recHeader)
	if err != nil {
		return err
	}
	s, err := b.at(off)
	if err != nil {
		return err
	}
	slot, err := strconv.Atoi(r.text)
	if off < b.recordsAt || s.typ != typeSeries || err != nil || slot < 0 || slot >= int(b.instances) {
		return fmt.Errorf("%w: %s: the record at offset %d is not a part of a series", ErrFormat, b.Path(), r.off)
	}
	f, err := b.family(s.family)
	if f == nil || err != nil {
		return err
	}
	if _, err := f.LabelValues(s.text); err != nil {
		return err
	}
	if !f.Parts() || int(r.words) != f.Words()+1 {
		return fmt.Errorf("%w: %s: the part at offset %d has %d words", ErrFormat, b.Path(), r.off, r.words)
	}
	words := b.mem.words(r.wordsAt, r.words-1)
	if b.retired(off) || again && known(&b.index, f, s.text, words) {
		return nil
	}
	instance := b.partOwners[slot]
	if instance == nil {
		instance = &backend.Instance{Number: slot}
		b.partOwners[slot] = instance
	}
	if parts := b.index.Parts(f.entry, s.text); parts != nil {
		for _, old := range parts.List() { // of the series in its former record
			if old.Instance == instance {
				b.index.RemoveWords(f.entry, s.text, []*atomic.Uint64{&old.Words[0]})
			}
		}
	}
	b.index.AddPart(f.entry, s.text, backend.Part{
		Words:    words,
		Instance: instance,
		Owner:    b.mem.u64(r.wordsAt + 8*uint64(r.words-1)),
	})
	return nil
}

// family returns the family whose record is at ref, or nil if it is from a later version.
func (b *Backend) family(ref uint32) (*family, error) {
	f, ok := b.families[ref]
	if ok {
		return f, nil
	}
	off := uint64(ref) * align
	if err := b.reach(off + recHeader); err != nil {
		return nil, err
	}
	r, err := b.at(off)
	if err == nil && (off < b.recordsAt || r.typ != typeFamily) {
		err = fmt.Errorf("%w: %s: there is no family at offset %d", ErrFormat, b.Path(), off)
	}
	if err != nil {
		return nil, err
	}
	if fam, err := backend.ParseSchema(r.text); err == nil {
		fam.Help = r.extra
		f = &family{Family: fam, entry: b.index.Declare(fam, off)}
		if fam.Block.Role == 0 {
			b.byName[fam.Name] = append(b.byName[fam.Name], f)
		}
	}
	b.families[ref] = f
	return f, nil
}

// Walk implements backend.Backend.
func (b *Backend) Walk() []backend.Group { return b.index.Walk() }

// known reports whether Sync has added these words to the index before.
func known(x *index.Index, f *family, labels string, words backend.Words) bool {
	if f.Parts() {
		parts := x.Parts(f.entry, labels)
		if parts == nil {
			return false
		}
		for _, p := range parts.List() {
			if &p.Words[0] == &words[0] {
				return true
			}
		}
		return false
	}
	s := x.Find(f.entry, labels)
	return s != nil && &s.Words[0] == &words[0]
}
