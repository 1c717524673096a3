// Package index holds what a scrape iterates over: families by name, series by label text. Backends
// fill it as they learn about families and series, and hand out its snapshots.
package index

import (
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/textmap"
)

// Index holds families and series. The zero value is empty and ready. It is safe for concurrent
// use. However many series there are, calls other than Walk and Tidy do not wait for long.
type Index struct {
	renewing sync.Mutex // held while sorted slices are replaced; taken before mu

	mu       sync.Mutex
	schemas  map[string]*Family
	families []*Family
	aids     map[string][]*Family // auxiliary families by name
	snapshot []backend.Group
	stale    bool             // snapshot is outdated
	rows     []backend.Series // preallocated rows, see newRow
	untidy   bool             // most of what a family has was removed

	pause func() // in tests: called while a renewal goes on

	// OwnTexts says that label texts belong to the index alone. They are then kept one after
	// the other, in the order in which pages read them. It must be set before use.
	OwnTexts bool
}

// Family is an entry of an Index.
type Family struct {
	family  *backend.Family
	order   uint64                   // the highest is the newest
	help    uint64                   // order of the help text
	sorted  []*backend.Series        // immutable while snapshots share it
	aligned []*backend.Parts         // parallel to sorted if there are parts; also immutable
	fresh   fresh                    // not yet in sorted
	removed map[*backend.Series]bool // still in sorted, or in renewal.fresh; or nil
	mixed   bool                     // some rows were allocated by callers or separately
	shared  bool                     // sorted is part of a snapshot
	parts   textmap.Map[*backend.Parts]
	renewal *renewal // of sorted; nil: none is going on
}

// Declare returns the entry of the family with f's schema, which it creates if necessary. Of
// families with the same name, the one with the highest order is the newest. Snapshots show the
// first f declared with a schema.
func (x *Index) Declare(f *backend.Family, order uint64) *Family {
	schema := f.Schema()
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.schemas[schema]
	if g == nil {
		g = &Family{family: f, order: order, help: order}
		if x.schemas == nil {
			x.schemas = make(map[string]*Family)
		}
		x.schemas[schema] = g
		x.families = append(x.families, g)
		if f.Block.Role != 0 {
			if x.aids == nil {
				x.aids = make(map[string][]*Family)
			}
			x.aids[f.Name] = append(x.aids[f.Name], g)
		}
		x.stale = true
	}
	return g
}

// Known returns the entry of the family with f's schema, or nil.
func (x *Index) Known(f *backend.Family) *Family {
	schema := f.Schema()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.schemas[schema]
}

// Aids returns the auxiliary families of f.
func (x *Index) Aids(f *backend.Family) (aids []*backend.Family) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.aids[f.Name] {
		if g.family.Aids(f) {
			aids = append(aids, g.family)
		}
	}
	return aids
}

// SetOrder changes the order that g was declared with.
func (x *Index) SetOrder(g *Family, order uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g.order != order {
		g.order = order
		x.stale = true
	}
}

// SetHelp sets the help text of g from the next snapshot on, unless its present one has a higher
// order.
func (x *Index) SetHelp(g *Family, help string, order uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if order > g.help {
		f := *g.family
		f.Help = help
		g.family, g.help = &f, order
		x.stale = true
	}
}

// FindOrAdd returns the series of g with the labels of row. If there is none, it adds row, which
// must not change from then on, and returns nil.
func (x *Index) FindOrAdd(g *Family, row *backend.Series) *backend.Series {
	hash := hashOf(row.Labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := g.find(row.Labels, hash); s != nil {
		return s
	}
	g.fresh.add(item{row: row}, hash)
	g.mixed = true
	x.stale = true
	return nil
}

// Add adds a series to g. Of several with the same labels, the first one is used.
func (x *Index) Add(g *Family, s backend.Series) {
	hash := hashOf(s.Labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	g.fresh.add(item{row: x.newRow(s)}, hash)
	x.stale = true
}

// Replace replaces the words of the series of g with the labels of s from the next snapshot on, or
// adds s if there is none. Earlier snapshots keep the old words.
func (x *Index) Replace(g *Family, s backend.Series) {
	hash := hashOf(s.Labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stale = true
	// rows are allocated separately, so that none keeps the words of others alive
	g.mixed = true
	if old := g.fresh.find(s.Labels, hash); old != nil {
		*old = s // it is in no snapshot yet
		return
	}
	if r := g.renewal; r != nil {
		// The row may be about to be copied: the new one comes after it.
		if old := g.findOld(s.Labels, hash, anyRow); old != nil {
			g.markRemoved(old)
		}
		g.fresh.add(item{row: &s}, hash)
		return
	}
	i, ok := slices.BinarySearchFunc(g.sorted, &s, byLabels)
	if !ok || g.removed[g.sorted[i]] {
		g.fresh.add(item{row: &s}, hash)
		return
	}
	if g.shared {
		g.sorted, g.shared = slices.Clone(g.sorted), false
	}
	g.sorted[i] = &s
}

// rowsAtOnce rows fill an allocation size class of the runtime.
const rowsAtOnce = 32

// newRow stores s in a row of the index. The caller must hold mu.
func (x *Index) newRow(s backend.Series) *backend.Series {
	if len(x.rows) == 0 {
		x.rows = make([]backend.Series, rowsAtOnce)
	}
	row := &x.rows[0]
	x.rows = x.rows[1:]
	*row = s
	return row
}

// Find returns the series of g with these labels, or nil. The caller must not change it.
func (x *Index) Find(g *Family, labels string) *backend.Series {
	x.mu.Lock()
	defer x.mu.Unlock()
	return g.find(labels, hashOf(labels))
}

func (g *Family) find(labels string, hash uint32) *backend.Series {
	if s := g.fresh.find(labels, hash); s != nil {
		return s
	}
	return g.findOld(labels, hash, anyRow)
}

func anyRow(*backend.Series) bool { return true }

// findOld returns a series that is not fresh, and for which is returns true, or nil.
func (g *Family) findOld(labels string, hash uint32, is func(*backend.Series) bool) *backend.Series {
	var dropped map[*backend.Series]bool
	if r := g.renewal; r != nil {
		place, _ := r.fresh.place(labels, hash, func(s *backend.Series) bool { return !g.removed[s] && is(s) })
		if place != nil {
			return place.row
		}
		dropped = r.removed
	}
	i, ok := slices.BinarySearchFunc(g.sorted, labels, func(s *backend.Series, labels string) int { return strings.Compare(s.Labels, labels) })
	if !ok || g.removed[g.sorted[i]] || dropped[g.sorted[i]] || !is(g.sorted[i]) {
		return nil
	}
	return g.sorted[i]
}

// Parts returns the parts of the series of g with these labels, or nil.
func (x *Index) Parts(g *Family, labels string) *backend.Parts {
	x.mu.Lock()
	defer x.mu.Unlock()
	return g.parts.Get(labels)
}

// AddPart adds parts to a series of g, which it creates if necessary.
func (x *Index) AddPart(g *Family, labels string, added ...backend.Part) {
	x.mu.Lock()
	defer x.mu.Unlock()
	parts := g.parts.Get(labels)
	if parts == nil {
		parts = new(backend.Parts)
		g.parts.Set(labels, parts)
		g.fresh.add(item{x.newRow(backend.Series{Labels: labels}), parts}, hashOf(labels))
		x.stale = true
	}
	parts.Add(added...)
}

// Labels returns the label texts of all series of g, in no particular order, and perhaps those of
// some that were removed. It locks the index only for a moment, however long the caller looks at
// them. Replace must not be called meanwhile.
func (x *Index) Labels(g *Family) iter.Seq[string] {
	x.mu.Lock()
	sorted, more := g.sorted, g.fresh.list()
	if g.renewal != nil {
		more = append(g.renewal.fresh.list(), more...)
	}
	g.shared = true
	x.mu.Unlock()
	return func(yield func(string) bool) {
		for _, s := range sorted {
			if !yield(s.Labels) {
				return
			}
		}
		for _, s := range more {
			if !yield(s.row.Labels) {
				return
			}
		}
	}
}

// Remove removes the series of g with these labels, and returns it with its parts, or returns nil.
// Apart from a search, the time that it takes is constant on average: the row stays in sorted until
// the next Walk or Tidy.
func (x *Index) Remove(g *Family, labels string) (*backend.Series, *backend.Parts) {
	hash := hashOf(labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	parts := g.parts.Get(labels)
	return x.remove(g, labels, hash, anyRow), parts
}

// remove removes a series and returns it, or nil if there is none that may be removed.
func (x *Index) remove(g *Family, labels string, hash uint32, may func(*backend.Series) bool) *backend.Series {
	s := g.fresh.remove(labels, hash, may)
	if s == nil {
		if s = g.findOld(labels, hash, may); s == nil {
			return nil
		}
		g.markRemoved(s)
		x.stale = true
		x.snapshot = nil // it would keep the removed series in memory until the next Walk
	}
	x.untidy = x.untidy || g.untidy()
	g.parts.Delete(labels)
	return s
}

// markRemoved records that a series that is not fresh was removed.
func (g *Family) markRemoved(s *backend.Series) {
	if g.removed == nil {
		g.removed = make(map[*backend.Series]bool)
	}
	g.removed[s] = true
	if r := g.renewal; r != nil {
		r.since = append(r.since, s)
	}
}

// RemoveWords removes the series of g with these labels if its first word is one of these, and
// those of its parts of which that is true. The cost is that of Remove.
func (x *Index) RemoveWords(g *Family, labels string, words []*atomic.Uint64) {
	hash := hashOf(labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	if parts := g.parts.Get(labels); parts != nil {
		if parts.Remove(func(p backend.Part) bool { return slices.Contains(words, &p.Words[0]) }) == 0 {
			x.remove(g, labels, hash, anyRow)
		}
		return
	}
	x.remove(g, labels, hash, func(s *backend.Series) bool {
		return len(s.Words) > 0 && slices.Contains(words, &s.Words[0])
	})
}

func byLabels(a, b *backend.Series) int { return strings.Compare(a.Labels, b.Labels) }
