//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Backend implements backend.Backend on a mapped file. An update survives the death of the process
// as soon as it is made.
type Backend struct {
	*segment
	slot  int    // in the instance table
	id    uint64 // of this instance
	place place  // where the file was opened

	mu       sync.Mutex
	hasParts bool // this instance has parts of series
	index    index.Index
	declared map[*backend.Family]uint32 // families this process has declared, as offset/64
	// families read so far, by offset/64; nil if this version cannot read one
	families   map[uint32]*family
	byName     map[string][]*family      // families read so far, by name
	partOwners map[int]*backend.Instance // instances that have parts, by slot
	dead       map[int]uint64            // ids found dead, which they stay, by slot
	// the head of each bucket up to which index has all records
	readHeads []uint32
	reread    map[uint64]bool // buckets that are read again from the beginning
	notices   []string

	reclaiming sync.Mutex // held by Reclaim; guards its state:
	buried     time.Time  // when series that nobody uses were last looked for
	seen       uint64     // the ticket of the last batch that is not needed any more
	leaving    uint64     // the ticket of a batch that may still be in use
	dropped    bool       // nothing but calls in progress, and held records, refers to it
	period     uint64     // calls that began in it, or earlier, may refer to the batch
	held       []uint64   // offsets of records that updates in progress may still refer to
	pause      time.Time  // until then, no batch is answered
}

// OpenContext opens the file for path, or creates it, and takes a slot in its instance table. It
// waits at most a second, and no longer than ctx allows, for a process that is replacing or
// rewriting the file. If a rewrite takes longer, the file is used as it is and the rewrite is
// discarded. The time to open a file does not depend on the number of its series, unless it is
// rewritten, or checked because the machine has restarted; FORMAT.md describes that check.
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
	b := &Backend{
		segment:    s.segment,
		slot:       s.slot,
		id:         s.id,
		place:      placeOf(path + Suffix),
		notices:    s.notices,
		declared:   make(map[*backend.Family]uint32),
		families:   make(map[uint32]*family),
		byName:     make(map[string][]*family),
		partOwners: make(map[int]*backend.Instance),
		dead:       make(map[int]uint64),
		readHeads:  make([]uint32, s.buckets),
		reread:     make(map[uint64]bool),
		seen:       s.id,
	}
	b.index.OwnTexts = true // copies, see memory.record
	return b, nil
}

// Path returns the name of the mapped file.
func (b *Backend) Path() string { return b.file.Name() }

// Number implements backend.Numbered: it returns the instance's slot.
func (b *Backend) Number() int { return b.slot }

// Notices implements backend.Noticer: it says what happened to a file that was damaged or could not
// be rewritten.
func (b *Backend) Notices() []string { return b.notices }

// Declare implements backend.Backend.
func (b *Backend) Declare(f *backend.Family) error {
	defer b.readers.enter()()
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
	r, err := b.findOrCreate(&record{typ: typeFamily, text: f.Schema(), extra: f.Help}, nil)
	if err != nil {
		return 0, err
	}
	ref = uint32(r.off / align)
	if r.extra != f.Help {
		// Each text is stored once, so that builds that alternate do not make the file
		// grow.
		if _, err := b.findOrCreate(&record{typ: typeHelp, family: ref, text: f.Help}, nil); err != nil {
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

// noteDeclared records that this instance has declared a family, with a ticket that says when.
func (b *Backend) noteDeclared(ref uint32) error {
	group := ""
	if n := b.slot / declaredSlots; n > 0 {
		group = strconv.Itoa(n)
	}
	r, err := b.findOrCreate(&record{typ: typeDeclared, family: ref, text: group, words: declaredSlots}, nil)
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

// declaredGroup returns the group of slots that a declaration record is for.
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
	defer b.readers.enter()()
	ref, err := b.declare(f)
	if err != nil {
		return nil, err
	}
	want := record{typ: typeSeries, family: ref, text: labels, words: uint32(f.Words()), essential: essential(f, labels)}
	if f.Parts() {
		want.words = 0
	}
	for {
		s := want
		r, err := b.findOrCreate(&s, func(r *record) bool { return b.gone(f, r) })
		if err != nil {
			return nil, err
		}
		if !f.Parts() {
			return b.mem.words(r.wordsAt, r.words), nil
		}
		words, err := b.ownPart(f, r, want.essential)
		if err != nil || words != nil {
			return words, err
		}
		b.bury(f, r)
	}
}

// ownPart returns the words of this instance's part of a series, or nil if the series was deleted.
func (b *Backend) ownPart(f *backend.Family, series *record, essential bool) (backend.Words, error) {
	n := uint32(f.Words())
	r, err := b.findOrCreate(&record{
		typ: typePart, family: uint32(series.off / align), text: strconv.Itoa(b.slot), words: n + 1, essential: essential,
	}, nil)
	if err != nil {
		return nil, err
	}
	words := b.mem.words(r.wordsAt, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() { // another process may have the slot by now
		return nil, backend.ErrClosed
	}
	b.hasParts = true
	if owner := b.mem.u64(r.wordsAt + 8*uint64(n)); owner.Load() != b.id {
		// Take over the part of a dead instance that had this slot. It does not count until
		// its owner is our id.
		for i := range words {
			words[i].Store(0)
		}
		b.changed(series.text)
		owner.Store(b.id)
		b.changed(series.text)
	} else if f.Sealed(words) { // as if it had never been updated
		b.changed(series.text)
		defer b.changed(series.text)
		f.Forget(words)
		f.Unseal(words)
	}
	// Only now, when the part counts: see bury and buryIfUnused.
	if !b.touch(series.off) {
		return nil, nil
	}
	return words, nil
}

// essential reports whether a series may use the reserved last part of the file, see maxEnd.
func essential(f *backend.Family, labels string) bool {
	return len(f.Labels) == 0 || strings.Contains(labels, `="`+backend.OverflowValue+`"`) || strings.Contains(f.Name, "gotheus_")
}

// Delete implements backend.Backend. The space of the deleted series serves others later, see
// Reclaim.
func (b *Backend) Delete(f *backend.Family, match func(labels string) bool) (n int, err error) {
	defer b.readers.enter()()
	schema := f.Schema()
	err = b.Sync(context.Background())
	for _, g := range b.Walk() {
		if g.Family.Name != f.Name || g.Family.Schema() != schema {
			continue
		}
		for i, s := range g.Series {
			if match(s.Labels) && b.deleteRow(&g, i) {
				n++
			}
		}
	}
	if n > 0 {
		b.mem.u64(offMade).Add(1)
	}
	return n, err
}

// DeleteSeries implements backend.Backend. It finds the series by its hash, so it needs no Sync.
func (b *Backend) DeleteSeries(f *backend.Family, labels string) (counted bool, err error) {
	if b.closed.Load() {
		return false, backend.ErrClosed
	}
	defer b.readers.enter()()
	ref, err := b.known(f)
	if ref == 0 || err != nil {
		return false, err
	}
	want := &record{typ: typeSeries, family: ref, text: labels, words: uint32(f.Words())}
	if f.Parts() {
		want.words = 0
	}
	r, err := b.search(want, func(r *record) bool { return b.gone(f, r) })
	if r == nil || err != nil {
		return false, err
	}
	if f.Parts() {
		counted = b.anyPart(r.off, func(words backend.Words) bool {
			return len(words) == f.Words()+1 && !f.Sealed(words[:f.Words()]) && b.owned(words[f.Words()].Load())
		})
	}
	return b.bury(f, r) || counted, nil
}

// known returns the number of a family, or 0 if the file does not have it.
func (b *Backend) known(f *backend.Family) (ref uint32, err error) {
	b.mu.Lock()
	ref, ok := b.declared[f]
	b.mu.Unlock()
	if ok {
		return ref, nil
	}
	r, err := b.search(&record{typ: typeFamily, text: f.Schema()}, nil)
	if r == nil || err != nil {
		return 0, err
	}
	return uint32(r.off / align), nil
}

// owned reports whether the instance with that id is alive.
func (b *Backend) owned(id uint64) bool {
	b.mu.Lock() // Close closes the file that alive uses
	defer b.mu.Unlock()
	return !b.closed.Load() && b.alive(id)
}

// search returns the record with the type, family and text of want, or nil.
func (s *segment) search(want *record, gone func(*record) bool) (*record, error) {
	want.hash = s.hashOf(want.typ, want.family, want.text)
	return s.find(want, s.bucket(want.hash).Load(), 0, gone)
}

// Aids implements backend.Backend.
func (b *Backend) Aids(f *backend.Family) []*backend.Family { return b.index.Aids(f) }

// Forget deletes all series of those families with this name that no live process has declared, and
// returns their number. It removes a metric, or a former definition of one, that no program uses
// any more. The families themselves are removed when the file is rewritten.
func (b *Backend) Forget(name string) (n int, err error) {
	err = b.Sync(context.Background())
	if errors.Is(err, backend.ErrClosed) {
		return 0, err
	}
	b.mu.Lock()
	var gone, kept []*backend.Family
	ids := make(map[int]uint64)
	for _, f := range b.byName[name] {
		if live, _ := b.lastDeclared(f, ids); live == 0 {
			gone = append(gone, f.Family)
		} else {
			kept = append(kept, f.Family)
		}
	}
	aids := func(list []*backend.Family, block *backend.Family) bool {
		return slices.ContainsFunc(list, block.Aids)
	}
	for _, f := range b.families { // auxiliary families go first, see Family.Aids
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

// Flush implements backend.Backend. It does nothing, since updates are durable when they are made.
func (b *Backend) Flush(context.Context) error { return nil }

// Close implements backend.Backend: it gives up the slot in the instance table. The file stays
// mapped, since words may be in use; opening it again uses the same mapping.
func (b *Backend) Close(context.Context) error {
	b.reclaiming.Lock() // a batch is not waited for by others once this instance has left
	defer b.reclaiming.Unlock()
	// Nor are calls in progress. Those that look for a series take microseconds; a page may
	// take longer, but only reads.
	for period, left := b.readers.turn(), 100; left > 0 && !b.readers.left(period); left-- {
		time.Sleep(time.Millisecond)
	}
	b.turn <- struct{}{}
	defer func() { <-b.turn }()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Swap(true) {
		return nil
	}
	var keep bool
	var err error
	if b.hasParts {
		keep, err = b.rest(b.slot)
	}
	b.leave(b.slot, b.id)
	if !keep {
		err = cmp.Or(err, b.file.Close())
	}
	return err
}
