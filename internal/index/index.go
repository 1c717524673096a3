// Package index keeps what a scrape walks: families by name, series by label text. Backends fill it
// as they learn of families and series, and hand out its snapshots.
package index

import (
	"slices"
	"strings"
	"sync"

	"github.com/gotheus/gotheus/backend"
)

// Index holds families and series. The zero value is empty and ready. It is safe for concurrent use.
type Index struct {
	mu       sync.Mutex
	schemas  map[string]*Family
	families []*Family // in order of declaration
	snapshot []backend.Group
	stale    bool // snapshot lacks something
}

// Family is a family's place in an Index.
type Family struct {
	family *backend.Family
	sorted []backend.Series // immutable once set: snapshots share it
	fresh  []backend.Series // not yet in sorted
}

// Declare returns the place of the family with f's schema. The first f given for a schema stays the
// one that is shown.
func (x *Index) Declare(f *backend.Family) *Family {
	schema := f.Schema()
	x.mu.Lock()
	defer x.mu.Unlock()
	g := x.schemas[schema]
	if g == nil {
		g = &Family{family: f}
		if x.schemas == nil {
			x.schemas = make(map[string]*Family)
		}
		x.schemas[schema] = g
		x.families = append(x.families, g)
		x.stale = true
	}
	return g
}

// SetHelp replaces the help text of g from the next snapshot on.
func (x *Index) SetHelp(g *Family, help string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := *g.family
	f.Help = help
	g.family = &f
	x.stale = true
}

// Add adds a series to g. The caller sees to it that no label text is added twice.
func (x *Index) Add(g *Family, s backend.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	g.fresh = append(g.fresh, s)
	x.stale = true
}

// Walk returns what backend.Backend's Walk promises. It costs nothing while nothing was added.
func (x *Index) Walk() []backend.Group {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stale {
		return x.snapshot
	}
	snapshot := make([]backend.Group, 0, len(x.families))
	for _, g := range slices.Backward(x.families) {
		g.merge()
		snapshot = append(snapshot, backend.Group{Family: g.family, Series: g.sorted})
	}
	slices.SortStableFunc(snapshot, func(a, b backend.Group) int { return strings.Compare(a.Family.Name, b.Family.Name) })
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
	old, fresh := g.sorted, g.fresh
	merged := make([]backend.Series, 0, len(old)+len(fresh))
	for len(old) > 0 && len(fresh) > 0 {
		if byLabels(old[0], fresh[0]) <= 0 {
			merged, old = append(merged, old[0]), old[1:]
		} else {
			merged, fresh = append(merged, fresh[0]), fresh[1:]
		}
	}
	g.sorted = append(append(merged, old...), fresh...)
	g.fresh = nil
}
