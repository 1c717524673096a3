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
// change once it is in the directory, except Called.
type Family struct {
	Home     *Home
	Def      *backend.Family // with prefix and constant labels
	Constant Labels          // labels that are the same for all series
	Open     []string        // labels that look-ups give, ascending
	IsVec    bool
	TTL      time.Duration // 0: series stay for ever
	Source   string        // where values come from; "": updates by code
	Called   bool          // it has a function; guarded by the directory's lock

	// Differs says how the definition of f differs from an existing family of the same name; ""
	// if it does not. It is called while the directory is locked.
	Differs            func(old *Family) string
	GivesTTL, GivesMax bool // the definition sets these

	Observing any // shared by the family's instruments, which alone know its type

	table  table
	text   *lookup.Text
	scale  *sparse.Scale     // of exponential buckets; nil: there are none
	levels []*backend.Family // of further blocks of buckets
	epoch  atomic.Uint64     // of the latest snapshots for quantiles
	age    atomic.Uint64     // how often series have been deleted

	mu            sync.Mutex            // held while series are created, moved or deleted
	returned      []Instrument          // deleted series that updates brought back
	unplaced      *Placement            // of series that are being created
	usual         *Placement            // of most other series, see share
	idle          map[string]*idleState // of series that may expire
	pinned        map[string]bool       // label texts of series that do not expire
	exemplarSlots [len(exemplarSizes)]*backend.Family
	postponedBy   error // why something was postponed; unlock logs it
	refusedBy     error // the limit that left no room for a series; unlock logs it
	Limit
}

// table has the series of a family.
type table interface {
	// each yields all instruments until yield returns false, and returns the last result of
	// yield.
	each(yield func(Instrument) bool) bool
	// prune forgets the series that are no longer listed, and returns how many of these counted
	// towards the family's limit.
	prune() (counted int64)
}

// Prepare derives the other fields from the exported ones. It is called once.
func (f *Family) Prepare() {
	f.text = lookup.TextOf(f.Def.Labels, f.Constant)
	if m := f.Def.PerDoubling(); m > 0 {
		f.scale, f.levels = sparse.ScaleOf(m), levelsOf(f.Def)
	}
}

// Age increases whenever series are deleted.
func (f *Family) Age() uint64 { return f.age.Load() }

// LabelText returns the label text of the series with these values, in the family's order.
func (f *Family) LabelText(values []string) string { return f.text.Write(values) }

// Lock returns the lock that is held while series are created.
func (f *Family) Lock() *sync.Mutex { return &f.mu }

// Table returns f's table, a *Table or a *Sampled.
func (f *Family) Table() any { return f.table }

// all ranges over the family's instruments: those in its table, and kept ones whose series were
// deleted and brought back. f.mu is held.
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

// Declare declares the family to the backend, now or as soon as it has room.
func (f *Family) Declare() {
	try := func() error { return f.Home.Current().Declare(f.Def) }
	if err := try(); err != nil {
		f.postpone(err, try)
		f.logPostponed(err)
	}
}

// place gives a series words: those of the backend or, until that has room, private ones. f.mu is
// held; the caller releases it with unlock.
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
		if err != nil && !old.waiting { // before updates can reach it: Flush must know
			f.postpone(err, func() error { return h.settle(m) })
			f.postponedBy = err
		}
		at := Placement{listed: true, waiting: old.waiting || err != nil, refused: refused, backend: b}
		f.put(m, at, words, nil)
		h.Moves.Unlock()
		return
	}
}

// firstCells is cells for a series that may be new. In the registry's own heap, a new series
// contains the row that pages walk, and a counter also contains its words: one allocation instead
// of three. f.mu is held.
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

// cells returns the words of a series or, if the backend has reached its configured limit, those of
// the overflow series. f.mu is held.
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

// setStart sets the start time of a series to now, unless its words have one: an older series in
// the backend keeps its start time, through restarts of the program, until it is deleted.
func (f *Family) setStart(w backend.Words) {
	start := f.Def.Start(w)
	if start == nil || start.Load() != 0 {
		return
	}
	if now := nanoseconds(f.Home.Now()); now > 0 {
		start.CompareAndSwap(0, uint64(now))
	}
}

// unlock releases f.mu after cells or place, and only then logs what they left to log: a logger may
// itself create series of the family.
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

// logRefused counts and logs that a new series counts in the overflow series, because the backend
// has reached its limit.
func (f *Family) logRefused(err error) {
	f.Home.count(overflowedLookups, f)
	f.Home.Log.Log(slog.LevelWarn, "limit "+f.Def.Name,
		"the backend has reached its limit of series; further ones are counted in one overflow series",
		"metric", f.Def.Name, "label value", OverflowValue, "error", err)
}
