//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
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
	rivals   map[string][]*family       // families of one name, by name
	others   map[int]*backend.Instance  // by slot: those that have parts
	dead     map[int]uint64             // by slot: the id there that was found dead, which it stays
	damage   error                      // the first that was found
	seen     []uint32                   // the head of each bucket up to which index has all records
	notices  []string
}

// family is a family that was read from the file; nil if this version cannot read its schema.
type family struct {
	*backend.Family
	place    *index.Family
	declared []declaration
}

// declaration is a record of typeDeclared.
type declaration struct {
	first   int // slot
	tickets backend.Words
}

// OpenContext opens the file for path, which it makes if there is none, and takes a place in its
// instance table. It waits a second at most, and no longer than ctx, for a process that is replacing the
// file; one that is rewriting it, and takes longer, finds that somebody was there, and leaves the file as it is. Opening costs the same however many series are in the file, unless they are to be copied or checked:
// see Options, and FORMAT.md for the check after a restart of the machine.
func OpenContext(ctx context.Context, path string, o *Options) (*Backend, error) {
	if o == nil {
		o = new(Options)
	}
	if err := checkLimit(path, o); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("shm: %w", err)
	}
	s, err := openSegment(ctx, path, o)
	if err != nil {
		return nil, err
	}
	return &Backend{
		segment:  s.segment,
		slot:     s.slot,
		id:       s.id,
		notices:  s.notices,
		declared: make(map[*backend.Family]uint32),
		families: make(map[uint32]*family),
		rivals:   make(map[string][]*family),
		others:   make(map[int]*backend.Instance),
		dead:     make(map[int]uint64),
		seen:     make([]uint32, s.buckets),
	}, nil
}

// Path returns the name of the mapped file.
func (b *Backend) Path() string { return b.file.Name() }

// Number implements backend.Numbered.
func (b *Backend) Number() int { return b.slot }

// Notices implements backend.Noticer: it says what became of a file that was damaged, or could not be rewritten.
func (b *Backend) Notices() []string { return b.notices }

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
	if f.Block.Role == 0 {
		if err := b.noteDeclared(ref); err != nil {
			return 0, err
		}
	}
	b.mu.Lock()
	b.declared[f] = ref
	b.mu.Unlock()
	return ref, nil
}

// noteDeclared writes down that this instance has declared a family, and when.
func (b *Backend) noteDeclared(ref uint32) error {
	group := ""
	if n := b.slot / declaredSlots; n > 0 {
		group = strconv.Itoa(n)
	}
	r, err := b.findOrCreate(&record{typ: typeDeclared, family: ref, text: group, words: declaredSlots})
	if err != nil {
		return err
	}
	ticket := b.Tickets().Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() { // another process may have the slot by now
		return backend.ErrClosed
	}
	raise(&b.mem.words(r.wordsAt, declaredSlots)[b.slot%declaredSlots], ticket)
	return nil
}

// declaredGroup returns which group of slots a record is about.
func declaredGroup(r *record, instances uint32) (group int, ok bool) {
	if r.text != "" {
		n, err := strconv.Atoi(r.text)
		if err != nil || n <= 0 || strconv.Itoa(n) != r.text {
			return 0, false
		}
		group = n
	}
	return group, r.words == declaredSlots && group <= int(instances)/declaredSlots
}

// Cells implements backend.Backend. A series that exists is found without a lock or a system call.
func (b *Backend) Cells(f *backend.Family, labels string) (backend.Words, error) {
	ref, err := b.declare(f)
	if err != nil {
		return nil, err
	}
	want := &record{typ: typeSeries, family: ref, text: labels, words: uint32(f.Words()), precious: precious(f, labels)}
	if f.Parts() {
		want.words = 0
	}
	r, err := b.findOrCreate(want)
	if err == nil && f.Parts() {
		r, err = b.findOrCreate(&record{
			typ: typePart, family: uint32(r.off / align), text: strconv.Itoa(b.slot), words: uint32(f.Words()) + 1, precious: want.precious,
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
	if f.Parts() && f.Sealed(words) { // as if it had never been updated
		f.Forget(words)
	}
	f.Unseal(words)
	return words, nil
}

// precious reports whether a series may use the last part of the file, see roomFor.
func precious(f *backend.Family, labels string) bool {
	return len(f.Labels) == 0 || strings.Contains(labels, `="`+backend.OverflowValue+`"`) || strings.Contains(f.Name, "gotheus_")
}

// Delete implements backend.Backend. The records stay, for when the series come back.
func (b *Backend) Delete(f *backend.Family, match func(labels string) bool) (n int, err error) {
	schema := f.Schema()
	err = b.Sync(context.Background())
	for _, g := range b.Walk() {
		if g.Family.Name != f.Name || g.Family.Schema() != schema {
			continue
		}
		for i, s := range g.Series {
			if !match(s.Labels) {
				continue
			}
			counted := false
			if g.Parts == nil {
				counted = f.Seal(s.Words)
			} else {
				for _, p := range g.Parts[i].List() {
					counted = f.Seal(p.Words) && p.Live() || counted
				}
			}
			if counted {
				n++
				size := roundUp(recHeader + 8*uint64(f.Words()) + uint64(len(s.Labels)))
				b.mem.u64(offWaste).Add(size)
			}
		}
	}
	return n, err
}

// Forget deletes the series of those families of a name that no live process has declared, and returns how
// many there were: what is left of a metric, or of a former definition of it, that no program has any more.
// The families themselves go when the file is rewritten.
func (b *Backend) Forget(name string) (n int, err error) {
	err = b.Sync(context.Background())
	if errors.Is(err, backend.ErrClosed) {
		return 0, err
	}
	b.mu.Lock()
	var gone, kept []*backend.Family
	ids := make(map[int]uint64)
	for _, f := range b.rivals[name] {
		if live, _ := b.lastDeclared(f, ids); live == 0 {
			gone = append(gone, f.Family)
		} else {
			kept = append(kept, f.Family)
		}
	}
	aids := func(list []*backend.Family, block *backend.Family) bool {
		return slices.ContainsFunc(list, block.Aids)
	}
	for _, f := range b.families { // further words go first, see Family.Aids
		if f != nil && aids(gone, f.Family) && !aids(kept, f.Family) {
			gone = slices.Insert(gone, 0, f.Family)
		}
	}
	b.mu.Unlock()
	for _, f := range gone {
		more, deleteErr := b.Delete(f, func(string) bool { return true })
		if err = errors.Join(err, deleteErr); f.Block.Role == 0 {
			n += more
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
	if !isAt(b.file, b.Path()) {
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
	ids := make(map[int]uint64)
	for slot, instance := range b.others {
		instance.ID.Store(b.liveID(slot, ids))
	}
	for _, list := range b.rivals {
		if len(list) < 2 {
			continue
		}
		for _, f := range list {
			live, last := b.lastDeclared(f, ids)
			if live > 0 {
				last = live | 1<<63
			}
			b.index.SetOrder(f.place, last)
		}
	}
	return b.damage
}

// liveID returns the id of the live instance in a slot, 0 if there is none; ids remembers them.
func (b *Backend) liveID(slot int, ids map[int]uint64) uint64 {
	id, ok := ids[slot]
	if !ok {
		id = b.mem.u64(b.instance(slot) + insID).Load()
		if id == b.dead[slot] {
			id = 0
		} else if !b.alive(id) {
			b.dead[slot] = id // without a system call from now on
			id = 0
		}
		ids[slot] = id
	}
	return id
}

// lastDeclared returns the highest ticket with which a live instance has declared a family, 0 if none has, and
// the highest of any.
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
		b.index.Add(f.place, backend.Series{Labels: r.text, Words: b.mem.words(r.wordsAt, r.words)})
	case typeDeclared:
		f, familyErr := b.family(r.family)
		group, ok := declaredGroup(r, b.instances)
		switch {
		case f == nil || familyErr != nil:
			err = familyErr
		case !ok:
			err = fmt.Errorf("%w: %s: the record at offset %d says nothing about instances", ErrFormat, b.Path(), off)
		default:
			f.declared = append(f.declared, declaration{group * declaredSlots, b.mem.words(r.wordsAt, r.words)})
		}
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
		f = &family{Family: fam, place: b.index.Declare(fam, off)}
		if fam.Block.Role == 0 {
			b.rivals[fam.Name] = append(b.rivals[fam.Name], f)
		}
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
	b.leave(b.slot, b.id)
	return b.file.Close()
}
