// Package index holds what a scrape iterates over: families by name, series by label text. Backends
// fill it as they learn about families and series, and hand out its snapshots.
package index

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// Index holds families and series. The zero value is empty and ready. It is safe for concurrent
// use.
type Index struct {
	mu       sync.Mutex
	schemas  map[string]*Family
	families []*Family
	aids     map[string][]*Family // auxiliary families by name
	snapshot []backend.Group
	stale    bool             // snapshot is outdated
	rows     []backend.Series // preallocated rows, see newRow

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
	removed map[*backend.Series]bool // still in sorted; or nil
	mixed   bool                     // some rows were allocated by callers or separately
	shared  bool                     // sorted is part of a snapshot
	parts   map[string]*backend.Parts

	partsGone int // removed from parts since that was made
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
	g.fresh.add(row)
	g.fresh.addHash(hash, g.fresh.n-1)
	g.fresh.hashed = g.fresh.n
	g.mixed = true
	x.stale = true
	return nil
}

// Add adds a series to g. Of several with the same labels, the first one is used.
func (x *Index) Add(g *Family, s backend.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g.fresh.add(x.newRow(s))
	x.stale = true
}

// Replace replaces the words of the series of g with the labels of s from the next snapshot on, or
// adds s if there is none. Earlier snapshots keep the old words.
func (x *Index) Replace(g *Family, s backend.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stale = true
	// rows are allocated separately, so that none keeps the words of others alive
	g.mixed = true
	if old := g.fresh.find(s.Labels, hashOf(s.Labels)); old != nil {
		*old = s // it is in no snapshot yet
		return
	}
	i, ok := slices.BinarySearchFunc(g.sorted, &s, byLabels)
	if !ok || g.removed[g.sorted[i]] {
		g.fresh.add(&s)
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
	i, ok := slices.BinarySearchFunc(g.sorted, labels, func(s *backend.Series, labels string) int { return strings.Compare(s.Labels, labels) })
	if !ok || g.removed[g.sorted[i]] {
		return nil
	}
	return g.sorted[i]
}

// Parts returns the parts of the series of g with these labels, or nil.
func (x *Index) Parts(g *Family, labels string) *backend.Parts {
	x.mu.Lock()
	defer x.mu.Unlock()
	return g.parts[labels]
}

// AddPart adds parts to a series of g, which it creates if necessary.
func (x *Index) AddPart(g *Family, labels string, added ...backend.Part) {
	x.mu.Lock()
	defer x.mu.Unlock()
	parts := g.parts[labels]
	if parts == nil {
		parts = new(backend.Parts)
		if g.parts == nil {
			g.parts = make(map[string]*backend.Parts)
		}
		g.parts[labels] = parts
		g.fresh.add(x.newRow(backend.Series{Labels: labels}))
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
	g.shared = true
	x.mu.Unlock()
	return func(yield func(string) bool) {
		for _, list := range [][]*backend.Series{sorted, more} {
			for _, s := range list {
				if !yield(s.Labels) {
					return
				}
			}
		}
	}
}

// Remove removes the series of g with these labels, and returns it with its parts, or returns nil.
// Apart from a search, the time that it takes is constant on average: the row stays in sorted until
// the next Walk, or until half of the rows are such.
func (x *Index) Remove(g *Family, labels string) (*backend.Series, *backend.Parts) {
	hash := hashOf(labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	parts := g.parts[labels]
	return x.remove(g, labels, hash, func(*backend.Series) bool { return true }), parts
}

// remove removes a series and returns it, or nil if there is none that may be removed.
func (x *Index) remove(g *Family, labels string, hash uint32, may func(*backend.Series) bool) *backend.Series {
	s := g.fresh.remove(labels, hash, may)
	if s == nil {
		i, ok := slices.BinarySearchFunc(g.sorted, labels, func(s *backend.Series, labels string) int { return strings.Compare(s.Labels, labels) })
		if !ok || g.removed[g.sorted[i]] || !may(g.sorted[i]) {
			return nil
		}
		s = g.sorted[i]
		if g.removed == nil {
			g.removed = make(map[*backend.Series]bool)
		}
		g.removed[s] = true
		x.stale = true
		x.snapshot = nil // it would keep the removed series in memory until the next Walk
		if len(g.removed) > len(g.sorted)/2 {
			g.dropRemoved()
			x.arrange(g)
		}
	}
	if g.parts[labels] != nil {
		delete(g.parts, labels)
		if g.partsGone++; g.partsGone > len(g.parts) { // a map does not shrink
			parts := make(map[string]*backend.Parts, len(g.parts))
			maps.Copy(parts, g.parts)
			g.parts, g.partsGone = parts, 0
		}
	}
	return s
}

// dropRemoved replaces sorted, which snapshots may share, by one without the removed series. The
// caller then calls arrange.
func (g *Family) dropRemoved() {
	kept := make([]*backend.Series, 0, len(g.sorted)-len(g.removed))
	for _, s := range g.sorted {
		if !g.removed[s] {
			kept = append(kept, s)
		}
	}
	g.sorted, g.removed, g.shared = kept, nil, false
}

// RemoveWords removes the series of g with these labels if its first word is one of these, and
// those of its parts of which that is true. The cost is that of Remove.
func (x *Index) RemoveWords(g *Family, labels string, words []*atomic.Uint64) {
	hash := hashOf(labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	if parts := g.parts[labels]; parts != nil {
		if parts.Remove(func(p backend.Part) bool { return slices.Contains(words, &p.Words[0]) }) == 0 {
			x.remove(g, labels, hash, func(*backend.Series) bool { return true })
		}
		return
	}
	x.remove(g, labels, hash, func(s *backend.Series) bool {
		return len(s.Words) > 0 && slices.Contains(words, &s.Words[0])
	})
}

// Walk implements the method of backend.Backend. It costs nothing if nothing has changed.
func (x *Index) Walk() []backend.Group {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stale {
		return x.snapshot
	}
	slices.SortFunc(x.families, func(a, b *Family) int {
		return cmp.Or(strings.Compare(a.family.Name, b.family.Name), cmp.Compare(b.order, a.order))
	})
	snapshot := make([]backend.Group, len(x.families))
	for i, g := range x.families {
		x.merge(g)
		g.shared = true
		snapshot[i] = backend.Group{Family: g.family, Series: g.sorted, Parts: g.aligned}
	}
	x.snapshot, x.stale = snapshot, false
	return snapshot
}

// merge moves the fresh series into a new sorted slice, since snapshots hold the old one.
func (x *Index) merge(g *Family) {
	if g.removed != nil {
		g.dropRemoved()
		if g.fresh.n == 0 {
			x.arrange(g)
		}
	}
	if g.fresh.n == 0 {
		return
	}
	old, more := g.sorted, g.fresh.sorted(g.family)
	g.fresh = fresh{}
	if len(old) == 0 {
		g.sorted = more
		x.arrange(g)
		return
	}
	merged := make([]*backend.Series, 0, len(old)+len(more))
	for len(old) > 0 && len(more) > 0 {
		switch c := byLabels(old[0], more[0]); {
		case c < 0:
			merged, old = append(merged, old[0]), old[1:]
		case c > 0:
			merged, more = append(merged, more[0]), more[1:]
		case g.family.Sealed(old[0].Words): // deleted, and made again in other words
			old = old[1:]
		default:
			more = more[1:]
		}
	}
	g.sorted = append(append(merged, old...), more...)
	x.arrange(g)
}

// arrange is called when sorted is new and not yet shared. It copies the index's own rows into a
// new array in order: pages take half the time if they read memory sequentially.
func (x *Index) arrange(g *Family) {
	g.align()
	if g.mixed {
		return
	}
	rows := make([]backend.Series, len(g.sorted))
	for i, s := range g.sorted {
		rows[i] = *s
		g.sorted[i] = &rows[i]
	}
	if !x.OwnTexts || g.family.Parts() { // a map has the texts of parts as keys
		return
	}
	size := 0
	for i := range rows {
		size += len(rows[i].Labels)
	}
	var all strings.Builder
	all.Grow(size)
	for i := range rows {
		all.WriteString(rows[i].Labels)
	}
	for i, text := 0, all.String(); i < len(rows); i++ {
		n := len(rows[i].Labels)
		rows[i].Labels, text = text[:n], text[n:]
	}
}

// align recreates aligned for a new sorted.
func (g *Family) align() {
	if !g.family.Parts() {
		return
	}
	g.aligned = make([]*backend.Parts, len(g.sorted))
	for i, s := range g.sorted {
		if g.aligned[i] = g.parts[s.Labels]; g.aligned[i] == nil {
			// the labels are in a file that was damaged after they were read
			g.aligned[i] = new(backend.Parts)
		}
	}
}

func byLabels(a, b *backend.Series) int { return strings.Compare(a.Labels, b.Labels) }
