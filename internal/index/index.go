// Package index keeps what a scrape walks: families by name, series by label text. Backends fill it
// as they learn of families and series, and hand out its snapshots.
package index

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/gotheus/gotheus/backend"
)

// Index holds families and series. The zero value is empty and ready. It is safe for concurrent use.
type Index struct {
	mu       sync.Mutex
	schemas  map[string]*Family
	families []*Family
	snapshot []backend.Group
	stale    bool // snapshot lacks something
}

// Family is a family's place in an Index.
type Family struct {
	family *backend.Family
	order  uint64           // age, the highest being the newest
	help   uint64           // age of the help text
	sorted []backend.Series // immutable once set: snapshots share it
	fresh  []backend.Series // not yet in sorted
	parts  map[string]*backend.Parts
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

// Add adds a series to g. Of several with the same label text, the first one counts.
func (x *Index) Add(g *Family, s backend.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g.fresh = append(g.fresh, s)
	x.stale = true
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
		g.fresh = append(g.fresh, backend.Series{Labels: labels, Parts: parts})
		x.stale = true
	}
	parts.Add(part)
}

// Remove removes the series of g that match.
func (x *Index) Remove(g *Family, match func(*backend.Series) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	drop := func(s backend.Series) bool {
		if !match(&s) {
			return false
		}
		delete(g.parts, s.Labels)
		return true
	}
	g.sorted = slices.DeleteFunc(slices.Clone(g.sorted), drop)
	g.fresh = slices.DeleteFunc(g.fresh, drop)
	x.stale = true
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
		snapshot[i] = backend.Group{Family: g.family, Series: g.sorted}
	}
	x.snapshot, x.stale = snapshot, false
	return snapshot
}

// merge moves fresh series into a new sorted slice, since snapshots hold the old one.
func (g *Family) merge() {
	if len(g.fresh) == 0 {
		return
	}
	byLabels := func(a, b backend.Series) int { return strings.Compare(a.Labels, b.Labels) }
	slices.SortFunc(g.fresh, byLabels)
	old, fresh := g.sorted, slices.CompactFunc(g.fresh, func(a, b backend.Series) bool { return a.Labels == b.Labels })
	merged := make([]backend.Series, 0, len(old)+len(fresh))
	for len(old) > 0 && len(fresh) > 0 {
		switch c := byLabels(old[0], fresh[0]); {
		case c < 0:
			merged, old = append(merged, old[0]), old[1:]
		case c > 0:
			merged, fresh = append(merged, fresh[0]), fresh[1:]
		default:
			fresh = fresh[1:] // only from a damaged file
		}
	}
	g.sorted = append(append(merged, old...), fresh...)
	g.fresh = nil
}
