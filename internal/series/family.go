package series

import (
	"errors"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/lookup"
	"github.com/gotheus/gotheus/internal/sparse"
)

// Family is a family of a registry with its series in this process. The exported fields never
// change once it is entered into its home, but for what is said about Max and Called.
type Family struct {
	Home     *Home
	Def      *backend.Family // with prefix and constant labels
	Shared   Labels          // those of Constant that come from the registry, or a view of it
	Constant Labels          // labels that are the same for all series
	Open     []string        // labels that look-ups give, ascending
	IsVec    bool
	TTL      time.Duration // 0: series stay for ever
	Source   string        // what gives the values if it is not updates; "": updates
	Called   bool          // its function is being called; guarded by the directory's lock

	// Differs says in what the definition of f differs from a family with its name that is
	// there; "" if in nothing. It is called while the directory is locked.
	Differs            func(old *Family) string
	GivesTTL, GivesMax bool // the definition gives these, so that they are not just defaults

	Observing any // what the instruments of the family share, of a type that only they know

	table  table
	text   *lookup.Text
	scale  *sparse.Scale     // of exponential buckets; nil: there are none
	levels []*backend.Family // where a series goes on when its first buckets are in use
	epoch  atomic.Uint64     // of the last snapshots for quantiles
	age    atomic.Uint64     // how often series have been deleted

	mu sync.Mutex // held while series are made, moved or deleted
	// Deleted series that somebody who had kept them has brought back.
	returned      []Instrument
	unplaced      *Placement            // of series that are being made
	usual         *Placement            // of most others, see share
	idle          map[string]*idleState // of series that may expire
	pinned        map[string]bool       // label texts of series that stay whatever the TTL
	exemplarSlots [len(exemplarSizes)]*backend.Family
	postponedBy   error // why something was postponed; logged when mu is free
	refusedBy     error // the limit that left no room for a series; logged when mu is free
	Limit
}

// table has the series of a family.
type table interface {
	// each yields all instruments, and reports whether it was not stopped.
	each(yield func(Instrument) bool) bool
	// prune forgets the series that are no longer listed, and returns how many of these counted
	// for the family's limit.
	prune() (counted int64)
}

// Prepare derives what follows from the exported fields. It is called once.
func (f *Family) Prepare() {
	f.text = lookup.TextOf(f.Def.Labels, f.Constant)
	if m := f.Def.PerDoubling(); m > 0 {
		f.scale, f.levels = sparse.ScaleOf(m), levelsOf(f.Def)
	}
}

// Age grows when series are deleted.
func (f *Family) Age() uint64 { return f.age.Load() }

// LabelText returns the label text of the series with these values, in the family's order.
func (f *Family) LabelText(values []string) string { return f.text.Write(values) }

// Lock returns the lock that is held while series are made.
func (f *Family) Lock() *sync.Mutex { return &f.mu }

// Table returns f's table, which is of the kind that it was made with.
func (f *Family) Table() any { return f.table }

// all ranges over the family's series: those in its table, and those that were deleted and brought
// back by somebody who had kept them. f.mu is held.
func (f *Family) all() iter.Seq[Instrument] {
	return func(yield func(Instrument) bool) {
		if !f.table.each(yield) {
			return
		}
		for _, m := range f.returned {
			if !yield(m) {
				return
			}
		}
	}
}

// Declare makes the family known to the backend, now or as soon as it has room.
func (f *Family) Declare() {
	try := func() error { return f.Home.Current().Declare(f.Def) }
	if err := try(); err != nil {
		f.postpone(err, try)
		f.logPostponed(err)
	}
}

// place gives a series words: those that the backend has for it, or private ones for as long as it
// has none. f.mu is held, and is to be released by unlock.
func (f *Family) place(m Instrument) {
	h, s := f.Home, m.Series()
	f.Watch()
	old := s.placement.Load()
	if !old.listed && s.Row.Words != nil {
		f.returned = append(f.returned, m)
	}
	for {
		b := h.Current()
		words, refused, err := f.firstCells(b, m)
		if err != nil {
			words, b = make(backend.Words, f.Def.Words()), nil
		}
		f.setStart(words)
		h.Moves.Lock()
		if b != nil && h.Current() != b {
			h.Moves.Unlock()
			continue // bound or closed meanwhile
		}
		if err != nil && !old.waiting { // before anybody can count in it: Flush must know
			f.postpone(err, func() error { return h.settle(m) })
			f.postponedBy = err
		}
		at := Placement{listed: true, waiting: old.waiting || err != nil, refused: refused, backend: b}
		f.put(m, at, words, nil)
		h.Moves.Unlock()
		return
	}
}

// firstCells is cells for a series that is new. In the registry's own heap, one that has never had
// words has the row that pages walk in itself, and a counter also has room for the words: one
// allocation in place of three. f.mu is held.
func (f *Family) firstCells(b *Binding, m Instrument) (words backend.Words, refused bool, err error) {
	s := m.Series()
	if s.Row.Words != nil || !b.Local || f.Def.Parts() {
		return f.cells(b, s.Row.Labels)
	}
	room := m.Room()
	if f.Def.Words() != len(room) {
		room = nil
	}
	b.Backend.(*heap.Backend).CellsIn(f.Def, &s.Row, room)
	return s.Row.Words, false, nil
}

// cells returns the words of a series or, if the backend's limit leaves no room for another label
// set, those of the overflow series. f.mu is held.
func (f *Family) cells(b *Binding, labels string) (words backend.Words, refused bool, err error) {
	words, err = b.Cells(f.Def, labels)
	if f.IsVec && errors.Is(err, backend.ErrLimit) {
		if overflow, overflowErr := b.Cells(f.Def, f.overflowLabels()); overflowErr == nil {
			f.refusedBy = err
			return overflow, true, nil
		}
	}
	return words, false, err
}

// setStart notes when a series began, which is now unless its words say so already: those of a
// backend that has had it for longer keep its start, through restarts of the program, until it is
// deleted.
func (f *Family) setStart(w backend.Words) {
	start := f.Def.Start(w)
	if start == nil || start.Load() != 0 {
		return
	}
	if now := nanoseconds(f.Home.Now()); now > 0 {
		start.CompareAndSwap(0, uint64(now))
	}
}

// unlock releases f.mu after cells or place. They have something to log, and a logger may itself
// make series of the family.
func (f *Family) unlock() {
	postponed, refused := f.postponedBy, f.refusedBy
	f.postponedBy, f.refusedBy = nil, nil
	f.mu.Unlock()
	if refused != nil {
		f.logRefused(refused)
	}
	if postponed != nil {
		f.logPostponed(postponed)
	}
}

// logRefused counts and logs that a new series counts in the overflow series, since the backend has
// no room for it by its limit.
func (f *Family) logRefused(err error) {
	f.Home.count(overflowedLookups, f)
	f.Home.Log.Log(slog.LevelWarn, "limit "+f.Def.Name,
		"the backend has no room for further series; they are counted in one overflow series",
		"metric", f.Def.Name, "value of its labels", OverflowValue, "error", err)
}
