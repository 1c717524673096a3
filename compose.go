package gotheus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// base returns the registry that has the families and the backend: r, unless r is a view.
func (r *Registry) base() *Registry {
	if r.view != nil {
		return r.view
	}
	return r
}

// Sub returns a view of r in which every name has a further prefix, after that of r, and every
// series has further constant labels. Metrics defined through the view are in r's backend and on
// its page, and methods that concern the backend, the page or the log are those of r. Two views may
// have metrics of the same name if they differ in the values of their labels; the metrics must then
// be the same in everything else. Sub panics with an error that wraps ErrInvalid if the prefix or
// the labels cannot be part of any metric, or if r already has one of the labels; see TrySub.
func (r *Registry) Sub(prefix string, labels Labels) *Registry { return Must(r.TrySub(prefix, labels)) }

// TrySub is like Sub, but returns the error instead of panicking.
func (r *Registry) TrySub(prefix string, labels Labels) (*Registry, error) {
	opts := r.opts
	opts.Prefix = strings.Clone(opts.Prefix + prefix)
	opts.Labels = maps.Clone(r.opts.Labels) // whose texts are the registry's own
	for _, name := range sortedKeys(labels) {
		if value, ok := opts.Labels[name]; ok {
			return nil, fmt.Errorf("%w: constant label %q: the registry has it already, with the value %q", ErrInvalid, name, value)
		}
		if opts.Labels == nil {
			opts.Labels = make(Labels)
		}
		opts.Labels[strings.Clone(name)] = strings.Clone(labels[name])
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	return &Registry{view: r.base(), opts: opts}, nil
}

// Include exposes the families and collectors of another registry on r's pages, until remove is
// called. Their values stay in the backend of other, which is read for each page; Flush and Close
// of r do not affect it. A family whose names clash with one of r is left out and logged.
// Registries that other includes are exposed, too, and including a view includes its registry. It
// panics with an error that wraps ErrInvalid if other is nil, or r itself, or a view of it.
func (r *Registry) Include(other *Registry) (remove func()) {
	if other == nil {
		panic(fmt.Errorf("%w: Include: the registry is nil", ErrInvalid))
	}
	r, other = r.base(), other.base()
	if r == other {
		panic(fmt.Errorf("%w: Include: a registry is on its own page already", ErrInvalid))
	}
	entry := &other
	r.collectorsMu.Lock()
	defer r.collectorsMu.Unlock()
	r.includes = append(r.includes, entry)
	return func() {
		r.collectorsMu.Lock()
		defer r.collectorsMu.Unlock()
		r.includes = slices.DeleteFunc(r.includes, func(e **Registry) bool { return e == entry })
	}
}

// included returns the registries that are on r's pages besides r, each once.
func (r *Registry) included() []*Registry {
	r.collectorsMu.Lock()
	none := len(r.includes) == 0
	r.collectorsMu.Unlock()
	if none { // which costs no allocation
		return nil
	}
	return r.allIncluded()
}

func (r *Registry) allIncluded() (all []*Registry) {
	var add func(from *Registry)
	add = func(from *Registry) {
		from.collectorsMu.Lock()
		list := slices.Clone(from.includes)
		from.collectorsMu.Unlock()
		for _, entry := range list {
			if other := *entry; other != r && !slices.Contains(all, other) {
				all = append(all, other)
				add(other)
			}
		}
	}
	add(r)
	return all
}

// isDuplicate reports whether another part shows the groups of the i-th one, since their registries
// share a backend. Of two, the first is shown or, with ScopeLeader, the one that leads.
func (s *scrape) isDuplicate(i int) bool {
	p := s.parts[i]
	for j, q := range s.parts {
		if j != i && p.shares(q) && (p.follows && !q.follows || p.follows == q.follows && j < i) {
			return true
		}
	}
	return false
}

// shares reports whether two registries are bound to the same backend.
func (p *part) shares(q *part) bool {
	a, b := p.r.bind.requested.Load(), q.r.bind.requested.Load()
	switch {
	case p.binding.Local || q.binding.Local:
		return false
	case p.binding.Backend == q.binding.Backend:
		return true
	}
	// All heaps have the same URL but share nothing, and with ScopeOwn, each registry has
	// counts of its own.
	return p.o.Scope != ScopeOwn && a != nil && b != nil && a.url && b.url && a.name == b.name && !strings.HasPrefix(a.name, "heap:")
}

// lockNumbers counts registries, for the order in which scrapes lock them.
var lockNumbers atomic.Uint64

// inLockOrder returns parts in an order that is the same for all scrapes: otherwise, two registries
// that include each other, and are being bound, could wait for each other's scrapes.
func inLockOrder(parts []*part) []*part {
	if len(parts) == 1 {
		return parts
	}
	return slices.SortedFunc(slices.Values(parts), func(a, b *part) int { return cmp.Compare(a.r.lockPlace(), b.r.lockPlace()) })
}

func (r *Registry) lockPlace() uint64 {
	r.lockOnce.Do(func() { r.lockNumber = lockNumbers.Add(1) })
	return r.lockNumber
}
