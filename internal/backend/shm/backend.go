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

// Backend implements backend.Backend on a mapped file. An update survives the death of the process
// as soon as it is made.
type Backend struct {
	*segment
	slot int    // in the instance table
	id   uint64 // of this instance

	mu       sync.Mutex
	index    index.Index
	declared map[*backend.Family]uint32 // families this process has declared, as offset/64
	// families read so far, by offset/64; nil if this version cannot read one
	families   map[uint32]*family
	byName     map[string][]*family      // families read so far, by name
	partOwners map[int]*backend.Instance // instances that have parts, by slot
	dead       map[int]uint64            // ids found dead, which they stay, by slot
	damage     error                     // the first damage that was found
	// the head of each bucket up to which index has all records
	readHeads []uint32
	notices   []string
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
	return &Backend{
		segment:    s.segment,
		slot:       s.slot,
		id:         s.id,
		notices:    s.notices,
		declared:   make(map[*backend.Family]uint32),
		families:   make(map[uint32]*family),
		byName:     make(map[string][]*family),
		partOwners: make(map[int]*backend.Instance),
		dead:       make(map[int]uint64),
		readHeads:  make([]uint32, s.buckets),
	}, nil
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
		// Each text is stored once, so that builds that alternate do not make the file
		// grow.
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

// noteDeclared records that this instance has declared a family, with a ticket that says when.
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
	ref, err := b.declare(f)
	if err != nil {
		return nil, err
	}
	want := &record{typ: typeSeries, family: ref, text: labels, words: uint32(f.Words()), essential: essential(f, labels)}
	if f.Parts() {
		want.words = 0
	}
	r, err := b.findOrCreate(want)
	if err == nil && f.Parts() {
		r, err = b.findOrCreate(&record{
			typ: typePart, family: uint32(r.off / align), text: strconv.Itoa(b.slot), words: uint32(f.Words()) + 1, essential: want.essential,
		})
	}
	if err != nil {
		return nil, err
	}
	words := b.mem.words(r.wordsAt, uint32(f.Words()))
	if f.Parts() {
		// Take over the part of a dead instance that had this slot. It does not count until
		// its owner is our id.
		b.mu.Lock()
		if b.closed.Load() { // another process may have the slot by now
			b.mu.Unlock()
			return nil, backend.ErrClosed
		}
		if owner := b.mem.u64(r.wordsAt + 8*uint64(f.Words())); owner.Load() != b.id {
			for i := range words {
				words[i].Store(0)
			}
			b.changed(labels)
			owner.Store(b.id)
			b.changed(labels)
		}
		b.mu.Unlock()
	}
	if f.Sealed(words) {
		b.changed(labels)
		defer b.changed(labels)
		if f.Parts() { // as if it had never been updated
			f.Forget(words)
		}
	}
	f.Unseal(words)
	return words, nil
}

// essential reports whether a series may use the reserved last part of the file, see maxEnd.
func essential(f *backend.Family, labels string) bool {
	return len(f.Labels) == 0 || strings.Contains(labels, `="`+backend.OverflowValue+`"`) || strings.Contains(f.Name, "gotheus_")
}

// Delete implements backend.Backend. Records of deleted series stay, and are used again if the
// series come back.
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
	if n > 0 {
		b.mem.u64(offMade).Add(1)
	}
	return n, err
}

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
// mapped, since words may be in use, so opening and closing repeatedly uses up address space.
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
