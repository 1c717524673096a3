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
	"github.com/gotheus/gotheus/internal/courtesy"
	"github.com/gotheus/gotheus/internal/lookup"
	"github.com/gotheus/gotheus/internal/sparse"
)

// Family is a family of a registry with its series in this process. Its exported fields do not
// change after Home.Enter, except for Called and the limits.
type Family struct {
	Home     *Home
	Def      *backend.Family // with prefix and constant labels
	Shared   Labels          // those of Constant that come from the registry, or a view of it
	Constant Labels          // labels that are the same for all series
	Open     []string        // labels that take values in look-ups, in ascending order
	IsVec    bool
	TTL      time.Duration // 0: series never expire
	Source   string        // what provides the values; "": updates
	Called   bool          // a function provides the values; guarded by directory.mu

	Given Given // what the definition sets explicitly

	Observing any // shared by the family's instruments; only they know the type

	table    table
	text     *lookup.Text
	overflow string            // label text of the overflow series
	scale    *sparse.Scale     // of exponential buckets; nil: there are none
	levels   []*backend.Family // of the further blocks of buckets
	epoch    atomic.Uint64     // of the last snapshots for quantiles
	age      atomic.Uint64     // number of times that series were deleted

	mu courtesy.Mutex // held while series are made, moved or deleted
	// deleted series that a retained instrument has brought back, by label text
	returned      map[string][]Instrument
	unplaced      *Placement            // of series that are being made
	shared        *Placement            // of most other series, see share
	idle          map[string]*idleState // of series that may expire
	sweep         uint64                // number of the last search for idle series
	pinned        map[string]bool       // label texts of series that are exempt from the TTL
	exemplarSlots [len(exemplarSizes)]*backend.Family
	postponedBy   error // why something was postponed; logged by unlock
	refusedBy     error // why a series counts in the overflow series; logged by unlock
	Limit
	Values
}

// table holds the series of a family.
type table interface {
	// each yields all instruments. It returns false if yield did.
	each(yield func(Instrument) bool) bool
	// find returns the instrument with this label text, or nil.
	find(labels string) Instrument
	// remove removes an instrument that find returns. It returns the weight with which that
	// counted towards the family's limit.
	remove(Instrument) (weight int64)
	// lockFree reports whether each may be called without the family's lock.
	lockFree() bool
}

// Prepare derives the unexported fields from the exported ones. It must be called once, before the
// family is used.
func (f *Family) Prepare() {
	f.text = lookup.TextOf(f.Def.Labels, f.Constant)
	f.overflow = f.text.Write(f.overflowValues())
	if m := f.Def.PerDoubling(); m > 0 {
		f.scale, f.levels = sparse.ScaleOf(m), levelsOf(f.Def)
	}
}

// own makes f's texts its own: the strings of a definition may be in memory that the program uses
// again, or parts of much longer ones.
func (f *Family) own() {
	f.Def.Own()
	f.Open = backend.CloneAll(f.Open)
	if len(f.Constant) > len(f.Shared) { // otherwise they are the registry's own
		f.Constant = backend.CloneLabels(f.Constant)
	}
	if f.levels != nil {
		f.levels = levelsOf(f.Def)
	}
}

// CheckConstant returns an error that wraps backend.ErrFamily if the constant labels of f are so
// long that not even the overflow series can exist.
func (f *Family) CheckConstant() error { return f.Def.CheckText(f.overflow) }

// Age increases whenever series are deleted. Caches of instruments compare it.
func (f *Family) Age() uint64 { return f.age.Load() }

// LabelText returns the label text of the series with these values, in the family's order.
func (f *Family) LabelText(values []string) string { return f.text.Write(values) }

// Lock returns the lock that guards making series.
func (f *Family) Lock() sync.Locker { return &f.mu }

// Table returns the table that NewTable or NewSampled has made for f.
func (f *Family) Table() any { return f.table }

// all ranges over the family's series: those in its table, and deleted ones that a retained
// instrument has brought back. The caller holds f.mu.
func (f *Family) all() iter.Seq[Instrument] {
	return func(yield func(Instrument) bool) {
		if !f.table.each(yield) {
			return
		}
		for _, list := range f.returned {
			for _, m := range list {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// listAll returns what all yields, and perhaps some series that were made or deleted meanwhile. It
// only takes the lock for short stretches. The table must be lock-free.
func (f *Family) listAll() (list []Instrument) {
	f.table.each(func(m Instrument) bool {
		list = append(list, m)
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	for _, more := range f.returned {
		list = append(list, more...)
		pause()
	}
	return list
}

// Declare declares the family to the backend, or postpones that until the backend has room.
func (f *Family) Declare() {
	try := func() error { return f.Home.Current().Declare(f.Def) }
	if err := try(); err != nil {
		f.postpone(err, try)
		f.logPostponed(err)
	}
}

// place allocates the words of a series in the backend, or private ones while the backend has no
// room. The caller holds f.mu and must release it with unlock.
func (f *Family) place(m Instrument) {
	h, s := f.Home, m.Series()
	f.Watch()
	old := s.placement.Load()
	returns := s.Row.Words != nil
	if !old.listed && returns {
		if f.returned == nil {
			f.returned = make(map[string][]Instrument)
		}
		f.returned[s.Row.Labels] = append(f.returned[s.Row.Labels], m)
		if old.dropped != nil {
			old.dropped.revive()
		}
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
			continue // bound or closed in the meantime
		}
		// Queued before put publishes the words: Flush must know of a series that may have
		// counts.
		if err != nil && !old.waiting {
			f.postpone(err, func() error { return h.moveToCurrent(m) })
			f.postponedBy = err
		}
		if refused {
			f.someRefused.Store(true)
		}
		at := Placement{listed: true, waiting: old.waiting || err != nil, refused: refused, backend: b}
		if returns {
			at.life = noPlaces
		}
		f.put(m, at, words, nil)
		h.Moves.Unlock()
		return
	}
}

// firstCells returns the words of a new series. In the registry's own heap, a series that has never
// had words contains the row that pages walk, and a counter also the words: one allocation instead
// of three. In other backends it is cells. The caller holds f.mu.
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

// cells returns the words of a series or, if the family's or the backend's limit of series is
// reached, those of the overflow series. The caller holds f.mu.
func (f *Family) cells(b *Binding, labels string) (words backend.Words, refused bool, err error) {
	if b.census != nil && f.counts(labels) && !f.hasRoom(b, labels) {
		err = errMaxSeries
	} else {
		words, err = b.Cells(f.Def, labels)
	}
	if f.IsVec && errors.Is(err, backend.ErrLimit) {
		if overflow, overflowErr := b.Cells(f.Def, f.overflow); overflowErr == nil {
			f.refusedBy = err
			return overflow, true, nil
		}
	}
	return words, false, err
}

// setStart sets the start time of a series to now, unless its words have one: in a persistent
// backend a series keeps its start across restarts of the program, until it is deleted. The
// compare-and-swap makes the first of several processes win.
func (f *Family) setStart(w backend.Words) {
	start := f.Def.Start(w)
	if start == nil || start.Load() != 0 {
		return
	}
	if now := nanoseconds(f.Home.Now()); now > 0 {
		start.CompareAndSwap(0, uint64(now))
	}
}

// unlock releases f.mu after cells or place, and then logs what these have recorded: a logger may
// itself make series of the family.
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

// logRefused counts and logs that a new series counts in the overflow series because a limit of
// series is reached.
func (f *Family) logRefused(err error) {
	f.Home.count(overflowedLookups, f)
	if err == errMaxSeries {
		f.logFull()
		return
	}
	f.Home.Log.Log(slog.LevelWarn, "limit "+f.Def.Name,
		"the backend's limit of series is reached; further label sets are counted in one overflow series",
		"metric", f.Def.Name, "value of its labels", OverflowValue, "error", err)
}
