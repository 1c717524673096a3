// Package index keeps what a scrape walks: families by name, series by label text. Backends fill it
// as they learn of families and series, and hand out its snapshots.
package index

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
)

// Index holds families and series. The zero value is empty and ready. It is safe for concurrent use.
type Index struct {
	mu       sync.Mutex
	schemas  map[string]*Family
	families []*Family
	snapshot []backend.Group
	stale    bool             // snapshot lacks something
	rows     []backend.Series // room for some more
}

// Family is a family's place in an Index.
type Family struct {
	family  *backend.Family
	order   uint64            // age, the highest being the newest
	help    uint64            // age of the help text
	sorted  []*backend.Series // immutable while snapshots share it
	aligned []*backend.Parts  // of each of sorted, if the family has parts; likewise
	fresh   fresh             // not yet in sorted
	mixed   bool              // some rows are where callers of FindOrAdd have them, or each by itself
	shared  bool              // a snapshot has sorted
	parts   map[string]*backend.Parts
}

// Declare returns the place of the family with f's schema. Of families with the same name, the one
// declared with the highest order is the newest. The first f given for a schema stays the one that is
// shown.
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
		x.stale = true
	}
	return g
}

// SetOrder changes the order with which g was declared.
func (x *Index) SetOrder(g *Family, order uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if g.order != order {
		g.order = order
		x.stale = true
	}
}

// SetHelp replaces the help text of g from the next snapshot on, unless it has one of a higher order.
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

// FindOrAdd returns the series of g with the labels of row or, if there is none, adds row, which must not change from
// then on, and returns nil.
func (x *Index) FindOrAdd(g *Family, row *backend.Series) *backend.Series {
	hash := hashOf(row.Labels)
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := g.find(row.Labels, hash); s != nil {
		return s
	}
	g.fresh.add(row)
	g.fresh.mark(hash, g.fresh.n-1)
	g.fresh.hashed = g.fresh.n
	g.mixed = true
	x.stale = true
	return nil
}

// Add adds a series to g. Of several with the same label text, the first one counts.
func (x *Index) Add(g *Family, s backend.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g.fresh.add(x.keep(s))
	x.stale = true
}

// Replace gives the series of g with the labels of s other words, from the next snapshot on, or
// adds it if there is none. Whoever has an earlier snapshot goes on reading the words in that.
func (x *Index) Replace(g *Family, s backend.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stale = true
	g.mixed = true // each row is a piece of memory of its own, or it would keep the words of others
	if old := g.fresh.find(s.Labels, hashOf(s.Labels)); old != nil {
		*old = s // it is in no snapshot yet
		return
	}
	i, ok := slices.BinarySearchFunc(g.sorted, &s, byLabels)
	if !ok {
		g.fresh.add(&s)
		return
	}
	if g.shared {
		g.sorted, g.shared = slices.Clone(g.sorted), false
	}
	g.sorted[i] = &s
}

// rowsAtOnce rows are one piece of memory, of a size that the runtime has.
const rowsAtOnce = 32

// keep returns where a row is from now on. mu is held.
func (x *Index) keep(s backend.Series) *backend.Series {
	if len(x.rows) == 0 {
		x.rows = make([]backend.Series, rowsAtOnce)
	}
	row := &x.rows[0]
	x.rows = x.rows[1:]
	*row = s
	return row
}

// Find returns the series of g with these labels, or nil. It must not be changed.
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
	if !ok {
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

// AddPart adds a part to a series of g, which it adds if there is none.
func (x *Index) AddPart(g *Family, labels string, part backend.Part) {
	x.mu.Lock()
	defer x.mu.Unlock()
	parts := g.parts[labels]
	if parts == nil {
		parts = new(backend.Parts)
		if g.parts == nil {
			g.parts = make(map[string]*backend.Parts)
		}
		g.parts[labels] = parts
		g.fresh.add(x.keep(backend.Series{Labels: labels}))
		x.stale = true
	}
	parts.Add(part)
}

// Remove removes the series of g that match.
func (x *Index) Remove(g *Family, match func(*backend.Series, *backend.Parts) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	drop := func(s *backend.Series) bool {
		if !match(s, g.parts[s.Labels]) {
			return false
		}
		delete(g.parts, s.Labels)
		return true
	}
	kept := slices.DeleteFunc(slices.Clone(g.sorted), drop)
	if len(kept) < len(g.sorted) {
		g.sorted, x.stale = kept, true
		x.snapshot = nil // or it would keep what was removed until the next Walk
		g.align()
	}
	g.fresh.remove(drop)
}

// Walk returns what backend.Backend's Walk promises. It costs nothing while nothing was added.
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
		g.merge()
		g.shared = true
		snapshot[i] = backend.Group{Family: g.family, Series: g.sorted, Parts: g.aligned}
	}
	x.snapshot, x.stale = snapshot, false
	return snapshot
}

// merge moves fresh series into a new sorted slice, since snapshots hold the old one.
func (g *Family) merge() {
	if g.fresh.n == 0 {
		return
	}
	old, more := g.sorted, g.fresh.sorted()
	g.fresh = fresh{}
	if len(old) == 0 {
		g.sorted = more
		g.arrange()
		return
	}
	merged := make([]*backend.Series, 0, len(old)+len(more))
	for len(old) > 0 && len(more) > 0 {
		switch c := byLabels(old[0], more[0]); {
		case c < 0:
			merged, old = append(merged, old[0]), old[1:]
		case c > 0:
			merged, more = append(merged, more[0]), more[1:]
		default:
			more = more[1:] // only from a damaged file
		}
	}
	g.sorted = append(append(merged, old...), more...)
	g.arrange()
}

// arrange is called when sorted is new, and not yet shared. It puts the index's own rows in its order: a page that goes
// through memory from one end to the other takes half the time.
func (g *Family) arrange() {
	g.align()
	if g.mixed {
		return
	}
	rows := make([]backend.Series, len(g.sorted))
	for i, s := range g.sorted {
		rows[i] = *s
		g.sorted[i] = &rows[i]
	}
}

// align makes aligned anew, since sorted is new.
func (g *Family) align() {
	if !g.family.Parts() {
		return
	}
	g.aligned = make([]*backend.Parts, len(g.sorted))
	for i, s := range g.sorted {
		if g.aligned[i] = g.parts[s.Labels]; g.aligned[i] == nil {
			g.aligned[i] = new(backend.Parts) // the labels are in a file that was damaged since
		}
	}
}

func byLabels(a, b *backend.Series) int { return strings.Compare(a.Labels, b.Labels) }
