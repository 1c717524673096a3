package series

import (
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/lookup"
)

// Table holds the instruments of a family and finds them by label values.
type Table[M any] struct {
	lookup.Table[M]
	family   *Family
	core     func(*M) Instrument
	overflow atomic.Pointer[lookup.Entry[M]] // also in the table; nil until needed
	free     map[*lookup.Entry[M]]bool       // exempt from the limit; guarded by Family.mu
}

// NewTable makes a table for f. f must be prepared. labels returns the label text of an instrument,
// and core the instrument as this package sees it.
func NewTable[M any](f *Family, labels func(*M) string, core func(*M) Instrument) *Table[M] {
	t := &Table[M]{family: f, core: core}
	t.Init(f.text, labels)
	f.table = t
	return t
}

// Mark is the state of a table before a search.
type Mark[M any] struct {
	full  *full
	state lookup.State[lookup.Entry[M]]
}

// Mark must be called before Find. The order matters: full is set after the last entry was added,
// except for those of series that others have made, so that a look-up that sees it and then finds
// nothing knows that the entry does not exist.
func (t *Table[M]) Mark() Mark[M] { return Mark[M]{t.family.full.Load(), t.State()} }

// Make returns the instrument for values, in the family's order, that Find has not found since
// mark. Unless another goroutine has made it by now, Make makes it, or returns the overflow series
// if the limit is reached. It does not retain the slice of values.
func (t *Table[M]) Make(values []string, mark Mark[M]) *M {
	f := t.family
	if mark.full != nil && mark.full.hasNot(values) {
		return t.overflowSeries()
	}
	f.mu.Lock()
	var m *M
	if t.State() != mark.state {
		m = t.made(values)
	}
	refused := false
	if m == nil {
		m, refused = t.create(values, true)
	}
	f.unlock()
	switch {
	case refused:
		return t.overflowEntry() // unlock has counted the look-up
	case m == nil:
		f.becomeFull()
		return t.overflowSeries()
	}
	return m
}

// MakeTooLong returns the overflow series for values that are too long for a series of their own.
func (t *Table[M]) MakeTooLong(values []string) *M {
	f := t.family
	if f.overflowed.Load() == nil { // overflowSeries counts, without a lock
		f.overflowed.Store(f.Home.tallyOf(overflowedLookups, f))
	}
	f.logTooLong(values)
	return t.overflowSeries()
}

// Pin makes the series with these values, unless they exist, and keeps them from expiring. They do
// not count towards the limit.
func (t *Table[M]) Pin(all [][]string) {
	f := t.family
	f.mu.Lock()
	defer f.unlock()
	for _, values := range all {
		if f.pinned == nil {
			f.pinned = make(map[string]bool)
		}
		f.pinned[f.text.Write(values)] = true
		t.uncounted(values)
	}
}

// IsOverflow reports whether m is the overflow series.
func (t *Table[M]) IsOverflow(m *M) bool {
	e := t.overflow.Load()
	return e != nil && m == &e.M
}

func (t *Table[M]) made(values []string) *M {
	if e := t.Find(values); e != nil {
		return &e.M
	}
	return nil
}

// uncounted returns the series with these values. If it makes one, that does not count towards the
// limit. The caller holds the family's lock.
func (t *Table[M]) uncounted(values []string) *M {
	if m := t.made(values); m != nil {
		return m
	}
	m, _ := t.create(values, false)
	return m
}

// create makes a series that does not exist. If counts is set, it returns nil if the limit is
// reached; refused says that this is the backend's limit, and that there are as many instruments as
// the family's own limit allows. It adds the entry last, so that look-ups only find series that
// have words. The caller holds the family's lock.
func (t *Table[M]) create(values []string, counts bool) (_ *M, refused bool) {
	f, labels := t.family, t.family.text.Write(values)
	if counts && f.counts(labels) && !f.hasRoom(f.Home.Current(), labels) {
		return nil, false
	}
	e := lookup.NewEntry[M](values)
	m := t.core(&e.M)
	f.initialize(m.Series(), labels)
	f.place(m)
	if !counts {
		if t.free == nil {
			t.free = make(map[*lookup.Entry[M]]bool)
		}
		t.free[e] = true
	} else {
		weight := backend.Weight(labels)
		if m.Series().placement.Load().refused {
			if limit := f.max.Load(); limit >= 0 && f.counted+weight > limit {
				return nil, true
			}
		}
		f.counted += weight
	}
	t.Add(e)
	return &e.M, false
}

// overflowSeries returns the overflow series and counts the look-up that gets it.
func (t *Table[M]) overflowSeries() *M {
	if c := t.family.overflowed.Load(); c != nil {
		c.add()
	}
	return t.overflowEntry()
}

func (t *Table[M]) overflowEntry() *M {
	if e := t.overflow.Load(); e != nil {
		return &e.M
	}
	values := t.family.overflowValues()
	t.family.mu.Lock()
	defer t.family.unlock()
	m := t.uncounted(values)
	t.overflow.Store(t.Find(values))
	return m
}

func (t *Table[M]) each(yield func(Instrument) bool) bool {
	for e := range t.All() {
		if !yield(t.core(&e.M)) {
			return false
		}
	}
	return true
}

func (t *Table[M]) lockFree() bool { return true }

// entry returns the entry with this label text, or nil.
func (t *Table[M]) entry(labels string) *lookup.Entry[M] {
	f := t.family
	var few [8]string
	values := few[:0]
	for name, value := range backend.ParseLabels(labels) {
		if _, ok := f.Constant[name]; !ok {
			values = append(values, value)
		}
	}
	if len(values) != len(f.Open) {
		return nil
	}
	e := t.Find(values)
	if e == nil || t.core(&e.M).Series().Row.Labels != labels {
		return nil // of another registry, with other constant labels
	}
	return e
}

func (t *Table[M]) find(labels string) Instrument {
	if e := t.entry(labels); e != nil {
		return t.core(&e.M)
	}
	return nil
}

func (t *Table[M]) remove(m Instrument) (weight int64) {
	labels := m.Series().Row.Labels
	e := t.entry(labels)
	t.Remove(e)
	if t.overflow.Load() == e {
		t.overflow.Store(nil)
	}
	if t.free[e] {
		delete(t.free, e)
		return 0
	}
	return backend.Weight(labels)
}
