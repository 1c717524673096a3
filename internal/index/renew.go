package index

import (
	"cmp"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
)

// renewal is the making of a new sorted slice of a family from its old one and its fresh series,
// while the index is not locked. Series that are added meanwhile are fresh again. What is removed
// meanwhile is in the new slice, and marked as removed.
type renewal struct {
	family  *Family
	def     *backend.Family
	sorted  []*backend.Series // old
	aligned []*backend.Parts
	fresh   fresh                    // places do not change
	removed map[*backend.Series]bool // of the old ones: not in the new slice
	mixed   bool
	since   []*backend.Series // removed meanwhile

	old, new   []*backend.Series // parallel: rows before and after they were copied
	newAligned []*backend.Parts
	newRemoved map[*backend.Series]bool
	settled    int // of since
}

// Walk implements the method of backend.Backend. It costs nothing if nothing has changed.
func (x *Index) Walk() []backend.Group {
	x.renewing.Lock()
	defer x.renewing.Unlock()
	x.mu.Lock()
	if !x.stale {
		defer x.mu.Unlock()
		return x.snapshot
	}
	slices.SortFunc(x.families, func(a, b *Family) int {
		return cmp.Or(strings.Compare(a.family.Name, b.family.Name), cmp.Compare(b.order, a.order))
	})
	// The snapshot has what all families have now.
	families, groups := slices.Clone(x.families), make([]backend.Group, len(x.families))
	var renewals []*renewal
	for i, g := range families {
		g.shared = true
		groups[i] = backend.Group{Family: g.family, Series: g.sorted, Parts: g.aligned}
		if g.needsRenewal() {
			renewals = append(renewals, g.renew())
		}
	}
	x.stale, x.snapshot = false, nil
	if len(renewals) == 0 {
		x.snapshot = groups
		x.mu.Unlock()
		return groups
	}
	x.mu.Unlock()
	at := 0
	for _, r := range renewals {
		x.finish(r)
		for families[at] != r.family {
			at++
		}
		groups[at].Series, groups[at].Parts = r.new, r.newAligned
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.stale {
		x.snapshot = groups
	}
	return groups
}

// Tidy gives back the memory of removed series, if they are more than those that are left. The
// callers of Remove call it from time to time.
func (x *Index) Tidy() {
	x.mu.Lock()
	untidy := x.untidy
	x.mu.Unlock()
	if !untidy {
		return
	}
	x.renewing.Lock()
	defer x.renewing.Unlock()
	x.mu.Lock()
	x.untidy = false
	var renewals []*renewal
	for _, g := range x.families {
		if g.untidy() {
			renewals = append(renewals, g.renew())
		}
	}
	x.mu.Unlock()
	for _, r := range renewals {
		x.finish(r)
	}
}

func (g *Family) needsRenewal() bool { return g.removed != nil || g.fresh.n > 0 }

// untidy reports whether more was removed than is left.
func (g *Family) untidy() bool {
	return g.renewal == nil && 2*(len(g.removed)+g.fresh.empty) > len(g.sorted)+g.fresh.n
}

// renew begins a renewal. The caller holds both locks.
func (g *Family) renew() *renewal {
	r := &renewal{family: g, def: g.family, sorted: g.sorted, aligned: g.aligned, fresh: g.fresh, removed: g.removed, mixed: g.mixed}
	g.renewal, g.fresh, g.removed, g.shared = r, fresh{}, nil, true
	return r
}

// finish makes the new slice, and replaces the old one by it. The caller holds renewing.
func (x *Index) finish(r *renewal) {
	r.merge()
	r.arrange(x.OwnTexts)
	if x.pause != nil {
		x.pause()
	}
	g := r.family
	for {
		x.mu.Lock()
		if len(r.since)-r.settled <= settleAtOnce {
			break
		}
		since := r.since
		x.mu.Unlock()
		r.settle(since)
	}
	defer x.mu.Unlock()
	r.settle(r.since)
	g.sorted, g.aligned, g.removed, g.renewal, g.shared = r.new, r.newAligned, r.newRemoved, nil, true
	x.untidy = x.untidy || g.untidy()
}

const settleAtOnce = 256

// settle marks what was removed meanwhile in the new slice.
func (r *renewal) settle(since []*backend.Series) {
	for _, s := range since[r.settled:] {
		if i, ok := slices.BinarySearchFunc(r.old, s, byLabels); ok && r.old[i] == s {
			if r.newRemoved == nil {
				r.newRemoved = make(map[*backend.Series]bool)
			}
			r.newRemoved[r.new[i]] = true
		}
	}
	r.settled = len(since)
}

// merge merges the old rows that were not removed with the fresh ones.
func (r *renewal) merge() {
	def := r.def
	more := r.fresh.sorted(def)
	size := len(r.sorted) - len(r.removed) + len(more)
	merged, hasParts := make([]*backend.Series, 0, size), def.Parts()
	var aligned []*backend.Parts
	if hasParts {
		aligned = make([]*backend.Parts, 0, size)
	}
	add := func(s item) {
		merged = append(merged, s.row)
		if hasParts {
			aligned = append(aligned, s.parts)
		}
	}
	for i, s := range r.sorted {
		if r.removed[s] {
			continue
		}
		for len(more) > 0 && byLabels(more[0].row, s) < 0 {
			add(more[0])
			more = more[1:]
		}
		if len(more) > 0 && more[0].row.Labels == s.Labels {
			// It may have been deleted, and made again in other words.
			if !hasParts && def.Sealed(s.Words) {
				continue
			}
			more = more[1:]
		}
		if hasParts {
			add(item{s, r.aligned[i]})
		} else {
			merged = append(merged, s)
		}
	}
	for _, s := range more {
		add(s)
	}
	r.new, r.newAligned = merged, aligned
}

// arrange copies the index's own rows into a new array in order: pages take half the time if they
// read memory sequentially.
func (r *renewal) arrange(ownTexts bool) {
	r.old = r.new
	if r.mixed {
		return
	}
	rows := make([]backend.Series, len(r.new))
	r.new = make([]*backend.Series, len(rows))
	for i, s := range r.old {
		rows[i] = *s
		r.new[i] = &rows[i]
	}
	if !ownTexts || r.def.Parts() { // a map has the texts of parts as keys
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
