//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Backend implements backend.Backend on a mapped file. Updates are durable, in the sense that no
// death of the process loses them, as soon as they are made.
type Backend struct {
	*segment
	slot int    // in the instance table
	id   uint64 // of this instance

	mu       sync.Mutex
	index    index.Index
	declared map[*backend.Family]uint32 // families this process asked for, as offset/64
	families map[uint32]*family         // families read so far
	others   map[int]*backend.Instance  // by slot: those that have parts
	damage   error                      // the first that was found
	seen     []uint32                   // the head of each bucket up to which index has all records
}

// family is a family that was read from the file; nil if this version cannot read its schema.
type family struct {
	*backend.Family
	place *index.Family
}

// openWait is how long opening waits for other processes that are about to make the file, if its
// context does not say.
const openWait = time.Second

// OpenContext opens the file for path, which it makes if there is none, and takes a place in its
// instance table. It waits a second at most, and no longer than ctx, for a process that is making the
// file. Opening costs the same however many series are in the file.
func OpenContext(ctx context.Context, path string, o *Options) (*Backend, error) {
	if o == nil {
		o = new(Options)
	}
	opt := *o
	if opt.Limit == 0 {
		opt.Limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	f, h, err := openFile(ctx, path+Suffix, &opt)
	if err != nil {
		return nil, err
	}
	mem, err := mapFile(f, h.limit)
	if err != nil {
		f.Close()
		return nil, err
	}
	b := &Backend{
		segment:  newSegment(f, h, mem),
		declared: make(map[*backend.Family]uint32),
		families: make(map[uint32]*family),
		others:   make(map[int]*backend.Instance),
		seen:     make([]uint32, h.buckets),
	}
	if b.slot, b.id, err = b.join(); err != nil {
		syscall.Munmap(mem)
		f.Close()
		return nil, err
	}
	return b, nil
}

// Path returns the name of the mapped file.
func (b *Backend) Path() string { return b.file.Name() }

// Declare implements backend.Backend.
func (b *Backend) Declare(f *backend.Family) error {
	_, err := b.declare(f)
	return err
}

func (b *Backend) declare(f *backend.Family) (uint32, error) {
	if b.closed.Load() {
		return 0, backend.ErrClosed
	}
	b.mu.Lock()
	ref, ok := b.declared[f]
	b.mu.Unlock()
	if ok {
		return ref, nil
	}
	r, err := b.findOrCreate(&record{typ: typeFamily, text: f.Schema(), extra: f.Help})
	if err != nil {
		return 0, err
	}
	ref = uint32(r.off / align)
	if r.extra != f.Help {
		// Each text is stored once, so that builds that take turns do not let the file grow.
		if _, err := b.findOrCreate(&record{typ: typeHelp, family: ref, text: f.Help}); err != nil {
			return 0, err
		}
	}
	b.mu.Lock()
	b.declared[f] = ref
	b.mu.Unlock()
	return ref, nil
}

// Cells implements backend.Backend. A series that exists is found without a lock or a system call.
func (b *Backend) Cells(f *backend.Family, labels string) (backend.Words, error) {
	ref, err := b.declare(f)
	if err != nil {
		return nil, err
	}
	want := &record{typ: typeSeries, family: ref, text: labels, words: uint32(f.Words())}
	if f.Parts() {
		want.words = 0
	}
	r, err := b.findOrCreate(want)
	if err == nil && f.Parts() {
		r, err = b.findOrCreate(&record{
			typ: typePart, family: uint32(r.off / align), text: strconv.Itoa(b.slot), words: uint32(f.Words()) + 1,
		})
	}
	if err != nil {
		return nil, err
	}
	words := b.mem.words(r.wordsAt, uint32(f.Words()))
	if f.Parts() {
		// What a dead instance left in this slot becomes ours. Nobody counts it until the id is ours, too.
		b.mu.Lock()
		if b.closed.Load() { // another process may have the slot by now
			b.mu.Unlock()
			return nil, backend.ErrClosed
		}
		if owner := b.mem.u64(r.wordsAt + 8*uint64(f.Words())); owner.Load() != b.id {
			for i := range words {
				words[i].Store(0)
			}
			owner.Store(b.id)
		}
		b.mu.Unlock()
	}
	if f.Sealed(words) {
		b.mem.u64(r.off + recStart).Store(uint64(time.Now().UnixNano()))
		if f.Parts() { // as if it had never been updated
			words[backend.GaugeFlags].Store(0)
			words[backend.GaugeTicket].Store(0)
		}
	}
	f.Unseal(words)
	return words, nil
}

// Delete implements backend.Backend. The records stay, for when the series come back.
func (b *Backend) Delete(f *backend.Family, match func(labels string) bool) (n int, err error) {
	schema := f.Schema()
	err = b.Sync(context.Background())
	for _, g := range b.Walk() {
		if g.Family.Schema() != schema {
			continue
		}
		for i := range g.Series {
			s := &g.Series[i]
			if !match(s.Labels) {
				continue
			}
			counted := false
			if s.Parts == nil {
				counted = f.Seal(s.Words)
			} else {
				for _, p := range s.Parts.List() {
					counted = f.Seal(p.Words) && p.Live() || counted
				}
			}
			if counted {
				n++
			}
		}
	}
	return n, err
}

// Tickets implements backend.Backend.
func (b *Backend) Tickets() *atomic.Uint64 { return b.mem.u64(offTickets) }

// Sync implements backend.Backend: it reads the records that came since the last time, for which it looks
// at every bucket of the index, some microseconds in all. Damaged records are left out; the error is that
// of the first one ever.
func (b *Backend) Sync(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return backend.ErrClosed
	}
	if removed(b.file) {
		return fmt.Errorf("shm: %s was removed or replaced while it was open: other processes may count elsewhere; restart this one", b.Path())
	}
	fail := func(err error) {
		if b.damage == nil {
			b.damage = err
		}
	}
	var fresh []uint64
	for i := range b.seen {
		head := b.mem.u32(offIndex + 4*uint64(i)).Load()
		if head == b.seen[i] {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fresh = fresh[:0]
		for off, err := range b.chain(head, b.seen[i]) {
			if err != nil {
				fail(err)
				// Up to there it may have gone in a circle.
				slices.Sort(fresh)
				fresh = slices.Compact(fresh)
				break
			}
			fresh = append(fresh, off)
		}
		for _, off := range fresh {
			fail(b.read(off, uint64(i)))
		}
		b.seen[i] = head
	}
	b.lookForDead()
	return b.damage
}

// lookForDead brings the instances that have parts up to date.
func (b *Backend) lookForDead() {
	for slot, instance := range b.others {
		id := b.mem.u64(b.instance(slot) + insID).Load()
		if slot != b.slot && !locked(b.file, lockByte+1+int64(slot)) {
			id = 0
		}
		instance.ID.Store(id)
	}
}

// read puts a record that was found in a bucket into the index.
func (b *Backend) read(off, bucket uint64) error {
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
			b.index.SetHelp(f.place, r.text, off)
			break
		}
		if _, err = f.LabelValues(r.text); err != nil {
			break
		}
		if f.Parts() && r.words == 0 {
			break // its parts have records of their own
		}
		if int(r.words) != f.Words() || f.Parts() {
			err = fmt.Errorf("%w: record at offset %d has %d words, family %s wants %d", ErrFormat, off, r.words, f.Name, f.Words())
			break
		}
		b.index.Add(f.place, backend.Series{
			Labels: r.text, Words: b.mem.words(r.wordsAt, r.words), Start: b.mem.u64(off + recStart),
		})
	case typePart:
		err = b.readPart(r)
	}
	return err // records of types that a later minor version added are skipped
}

func (b *Backend) readPart(r *record) error {
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
		return fmt.Errorf("%w: %s: the record at offset %d is no part of a series", ErrFormat, b.Path(), r.off)
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
	instance := b.others[slot]
	if instance == nil {
		instance = &backend.Instance{Number: slot}
		b.others[slot] = instance
	}
	b.index.AddPart(f.place, s.text, backend.Part{
		Words:    b.mem.words(r.wordsAt, r.words-1),
		Instance: instance,
		Owner:    b.mem.u64(r.wordsAt + 8*uint64(r.words-1)),
	})
	return nil
}

// family returns the family whose record is at ref; nil if it is one of a later version.
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
		err = fmt.Errorf("%w: %s: no family is at offset %d", ErrFormat, b.Path(), off)
	}
	if err != nil {
		return nil, err
	}
	if fam, err := backend.ParseSchema(r.text); err == nil {
		fam.Help = r.extra
		f = &family{fam, b.index.Declare(fam, off)}
	}
	b.families[ref] = f
	return f, nil
}

// Walk implements backend.Backend.
func (b *Backend) Walk() []backend.Group { return b.index.Walk() }

// Flush implements backend.Backend. Every update is durable when it is made, so there is nothing to do.
func (b *Backend) Flush(context.Context) error { return nil }

// Close implements backend.Backend: it gives up the place in the instance table. The file stays mapped,
// since words may be in use: opening and closing again and again uses up addresses.
func (b *Backend) Close(context.Context) error {
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Swap(true) {
		return nil
	}
	b.leave(b.slot)
	return b.file.Close()
}

// Instances returns who has the file open, or died with it open; nil after Close.
func (b *Backend) Instances() []Instance {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return nil
	}
	var list []Instance
	for i := range int(b.instances) {
		at := b.instance(i)
		id := b.mem.u64(at + insID).Load()
		if id == 0 {
			continue
		}
		p := b.mem[at : at+instanceSize]
		host := string(p[insHost:])
		for i := range len(host) {
			if host[i] == 0 {
				host = host[:i]
				break
			}
		}
		list = append(list, Instance{
			ID:    id,
			Host:  host,
			PID:   int(order.Uint32(p[insPID:])),
			Start: time.Unix(0, int64(order.Uint64(p[insStart:]))),
			Alive: i == b.slot || locked(b.file, lockByte+1+int64(i)),
		})
	}
	return list
}

// join takes a free slot of the instance table, or that of a dead process.
func (s *segment) join() (slot int, id uint64, err error) {
	for i := range int(s.instances) {
		ok, err := lock(s.file, lockByte+1+int64(i))
		if err != nil {
			return 0, 0, fmt.Errorf("shm: locking %s: %w", s.file.Name(), err)
		}
		if !ok {
			continue
		}
		at := s.instance(i)
		s.mem.u64(at + insID).Store(0) // nobody may take a half-written slot for the old or the new process
		p := s.mem[at : at+instanceSize]
		clear(p[insStart:])
		order.PutUint64(p[insStart:], uint64(time.Now().UnixNano()))
		order.PutUint32(p[insPID:], uint32(os.Getpid()))
		host, _ := os.Hostname()
		copy(p[insHost:], host)
		id := randomID()
		s.mem.u64(at + insID).Store(id)
		return i, id, nil
	}
	return 0, 0, fmt.Errorf("shm: %s: all %d places for processes are taken", s.file.Name(), s.instances)
}

func (s *segment) leave(slot int) {
	s.mem.u64(s.instance(slot) + insID).Store(0)
	unlock(s.file, lockByte+1+int64(slot))
}

// instance returns the offset of a slot.
func (s *segment) instance(i int) uint64 { return s.instanceAt + uint64(i)*instanceSize }
