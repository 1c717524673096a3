package gotheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Gathering: what a page is made of is asked for, and it is decided which families are on it.

// defaultTimeout is what a scrape without a deadline of its own may take.
const defaultTimeout = 10 * time.Second

// gather fills p with the families of a page in order. The registry is not bound to another backend
// before p is released. A page with err shows what was known before.
func (r *Registry) gather(ctx context.Context, p *page, o *WriteOptions) (err error) {
	p.reg = r
	r.applyEnv(ctx)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	early := deadline.Add(-time.Until(deadline) / 5) // the rest is for writing the page without those that hang
	b := r.current()
	before := r.sampledNew.Load()
	var own []*collected
	if !b.local || r.hasCollectors() {
		own, err = r.ask(ctx, early, deadline, p, b, o)
	} // else there is nobody to wait for, which would cost most of what a small page does
	if err := p.begin(ctx, deadline); err != nil {
		return err
	}
	now := r.current()
	// Bound or closed meanwhile; or there are series that were not there when others' were looked for.
	if now != b || err == nil && r.sampledNew.Load() != before && !now.local {
		rest, cancel := context.WithTimeout(ctx, time.Until(deadline)/2)
		b, err = now, r.sync(rest, now, o.Scope)
		cancel()
	}
	var groups []backend.Group
	switch {
	case o.Scope == ScopeOwn:
		groups, err = r.ownGroups(b)
	case o.Scope == ScopeLeader && err == nil:
		groups, err = r.narrow(p, b, b.Walk())
	default:
		groups = b.Walk()
	}
	if errors.Is(err, ErrScope) {
		return err
	}
	if err != nil && o.Scope == ScopeLeader && !errors.Is(err, ErrStale) {
		err = fmt.Errorf("%w: %w", ErrStale, err) // there may be another leader
	}
	if errors.Is(err, ErrStale) {
		r.log(slog.LevelError, "sync", "the backend cannot be read; there is no page, since it would be behind those of other processes", "error", err)
		return err
	}
	if err != nil && ctx.Err() == nil {
		r.log(slog.LevelError, "sync", "the backend cannot be read; the page shows what is known", "error", err)
	}
	if o.Scope == ScopeLeader && !p.follows { // else they are on the leader's page
		late, cancel := context.WithDeadline(ctx, early)
		own = r.askLate(late, p, b, o, len(o.Names))
		cancel()
	}
	hidden := r.addGroups(p, groups, o)
	// The backend's families are the same on every page, so they win over those that are made here.
	p.families = slices.DeleteFunc(p.families, func(f pageFamily) bool {
		if !r.leaveOut(p, &f, o) {
			return false
		}
		for _, g := range f.groups {
			hidden += len(g.Series)
		}
		return true
	})
	for _, c := range append(own, r.selfFamilies(p, groups, hidden, o.Scope)...) {
		f := pageFamily{Family: c.Family, collected: c}
		f.ClassicLabels = classicLabels(c.def.Labels)
		if !o.wants(f.Type, f.Name) {
			continue
		}
		if !r.leaveOut(p, &f, o) {
			p.families = append(p.families, f)
		} else if !r.opts.NoSelfMetrics {
			if c, err := newOwn(r, collectorErrorsName, collectorErrorsHelp); err == nil {
				c.Inc()
			}
		}
	}
	slices.SortFunc(p.families, func(a, b pageFamily) int { return strings.Compare(a.Name, b.Name) })
	return err
}

// sync brings what is known up to date, as far as a page of this scope needs it.
func (r *Registry) sync(ctx context.Context, b *binding, s Scope) error {
	switch {
	case s == ScopeOwn:
		return nil
	case s == ScopeLeader && !b.local:
		if err := r.candidate.stand(r, b); err != nil {
			return err
		}
	}
	return b.Sync(ctx)
}

// askLate asks collectors of what is alike in all processes, when it is known that this one shows it.
func (r *Registry) askLate(ctx context.Context, p *page, b *binding, o *WriteOptions, names int) (own []*collected) {
	var omitted error
	switch {
	case names == 0:
		own, omitted = r.collect(ctx, ofAll)
	case !o.foundIn(b, names):
		own, omitted = r.collect(ctx, everybody)
	}
	p.omitted = errors.Join(p.omitted, omitted)
	return own
}

// ask lets the backend see what other processes did, and collectors make their families, side by side, until some time.
func (r *Registry) ask(ctx context.Context, until, deadline time.Time, p *page, b *binding, o *WriteOptions) (own []*collected, err error) {
	early, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	whom := everybody
	if remote := isRemote(b); len(o.Names) == 0 && (remote && o.Scope != ScopeOwn || o.Scope == ScopeLeader) {
		// What they store is on the page when Sync has published it. Half of the time is for Sync.
		first, cancel := context.WithDeadline(early, deadline.Add(-time.Until(deadline)*3/5))
		_, p.omitted = r.collect(first, ofInstance)
		cancel()
		whom = ofAll
	}
	synced := make(chan error, 1)
	go func() { synced <- r.sync(early, b, o.Scope) }()
	if len(o.Names) == 0 && o.Scope != ScopeLeader {
		var omitted error
		own, omitted = r.collect(early, whom)
		p.omitted = errors.Join(p.omitted, omitted)
	}
	select {
	case err = <-synced: // before a collector hung
	default:
		select {
		case err = <-synced:
		case <-early.Done():
			err = r.lateSync(ctx, synced)
		}
	}
	if o.Scope != ScopeLeader && !o.foundIn(b, len(o.Names)) {
		own, p.omitted = r.collect(early, everybody)
	}
	return own, err
}

// begin waits for a bind in progress; another one waits for release.
func (p *page) begin(ctx context.Context, deadline time.Time) (err error) {
	if !p.reg.tryScrape() {
		limited, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		err = poll(limited, p.reg.tryScrape)
	}
	p.scraping = err == nil
	return err
}

// lateSync gives a Sync that has been told to end a twentieth of the time that is left to say what its end means.
func (r *Registry) lateSync(ctx context.Context, synced <-chan error) error {
	left := defaultTimeout / 5
	if d, ok := ctx.Deadline(); ok {
		left = time.Until(d)
	}
	timer := time.NewTimer(left / 20)
	defer timer.Stop()
	select {
	case err := <-synced:
		return err
	case <-timer.C:
		if isRemote(r.current()) { // what is known may be behind another page
			return fmt.Errorf("%w: %w", ErrStale, context.DeadlineExceeded)
		}
		return context.DeadlineExceeded
	}
}

// foundIn reports whether the backend has all n names that are asked for.
func (o *WriteOptions) foundIn(b backend.Backend, n int) bool {
	if n == 0 {
		return true
	}
	groups := b.Walk()
	for _, name := range o.Names {
		if !slices.ContainsFunc(groups, func(g backend.Group) bool { return o.means(name, typeOf(g.Family.Kind), g.Family.Name) }) {
			return false
		}
	}
	return true
}

// leaveOut reports whether f clashes with a family that is on the page, or two of its labels do, and notes
// its name if it does not.
func (r *Registry) leaveOut(p *page, f *pageFamily, o *WriteOptions) bool {
	stem, s := stemOf(f.Type, o.Format.NameEscaping().MetricName(f.Name))
	what := p.shown.clash(stem, s, p.name)
	if what == "" && f.collected != nil && !f.ClassicLabels {
		_, what = escapedLabels(o.Format.NameEscaping(), f.collected.def.Labels)
	}
	if what != "" {
		r.omit(p, f.Name, what)
		return true
	}
	p.shown[stem] = s
	return false
}

// omit reports that a family, or a part of it, is not on the page.
func (r *Registry) omit(p *page, name, what string) {
	r.log(slog.LevelError, "clash "+name, "a family was left out of the page", "metric", name, "clashes with", what)
	if p.omitted == nil {
		p.omitted = fmt.Errorf("%s clashes with %s", name, what)
	}
}

// addGroups adds the backend's families. Of several with one name, the newest is shown together with
// those that differ in nothing but labels and help; it returns how many series of others are hidden.
func (r *Registry) addGroups(p *page, groups []backend.Group, o *WriteOptions) (hidden int) {
	r.mu.Lock()
	unregistered := len(r.hidden) > 0
	r.mu.Unlock()
	for i := 0; i < len(groups); {
		first := len(p.groups) // the newest group of this name that is shown
		j := i
		for ; j < len(groups) && groups[j].Family.Name == groups[i].Family.Name; j++ {
			g := groups[j].Family
			switch {
			case g.Block.Role != 0 || unregistered && r.isHidden(g) || !o.wants(typeOf(g.Kind), g.Name):
			case r.labelsClash(p, p.groups[first:], g, o):
				hidden += existing(&groups[j])
			case len(p.groups) == first || p.groups[first].Family.Alike(g):
				p.groups = append(p.groups, pageGroup{Group: groups[j]})
			default:
				n := existing(&groups[j])
				if hidden += n; n > 0 {
					r.log(slog.LevelWarn, "schema "+g.Name, "programs disagree about a metric; the page shows what a live process declared last, the other keeps counting",
						"metric", g.Name, "shown", describe(p.groups[first].Family), "hidden", describe(g), "series", n)
					if p.omitted == nil {
						p.omitted = fmt.Errorf("programs disagree about %s", g.Name)
					}
				}
			}
		}
		if shown := p.groups[first:]; len(shown) > 0 {
			for k := range shown {
				shown[k].blocks = p.blocksFor(shown[k].Family, groups[i:j])
			}
			g, bounds := shown[0].Family, shown[0].Family.Buckets
			if g.Sketch != nil {
				bounds = g.Sketch.Quantiles
			}
			p.families = append(p.families, pageFamily{
				Family: expo.Family{Name: g.Name, Help: r.helpOf(g), Unit: g.Unit, Type: typeOf(g.Kind), Bounds: bounds, ClassicLabels: classicGroups(shown)},
				groups: shown[:len(shown):len(shown)],
			})
		}
		i = j
	}
	return hidden
}

// helpOf returns the help text of a family of the backend, where another process may have put
// anything.
func (r *Registry) helpOf(f *backend.Family) string {
	help := strings.ToValidUTF8(f.Help, "\ufffd")
	if help != f.Help {
		r.log(slog.LevelWarn, "help "+f.Name, "a help text that another process has written is not UTF-8; the page shows it without what is wrong",
			"metric", f.Name, "help", f.Help)
	}
	return help
}

// labelsClash reports whether labels of g could not be told apart on the page, from each other or from those
// of the family's other groups.
func (r *Registry) labelsClash(p *page, others []pageGroup, g *backend.Family, o *WriteOptions) bool {
	names := g.Labels
	if g.Kind == backend.StateSet {
		names = append(slices.Clone(names), g.Name)
	}
	if o.Format.NameEscaping() == expo.AllowUTF8 || classicLabels(names) && len(others) == 0 {
		return false
	}
	key, clash := escapedLabels(o.Format.NameEscaping(), names)
	for i := 0; clash == "" && i < len(others); i++ {
		labels := others[i].Family.Labels
		if k, _ := escapedLabels(o.Format.NameEscaping(), labels); k == key && g.Kind != backend.StateSet {
			clash = strings.Join(labels, ", ")
		}
	}
	if clash == "" {
		return false
	}
	r.omit(p, g.Name, clash)
	return true
}

// existing returns how many of a group's series were not deleted.
func existing(g *backend.Group) (n int) {
	for i := range g.Series {
		if g.Parts != nil && !allSealed(g.Parts[i].List()) || g.Parts == nil && !g.Family.Sealed(g.Series[i].Words) {
			n++
		}
	}
	return n
}

// describe says what families of one name may disagree about, and cannot be shown together.
func describe(f *backend.Family) string {
	s := f.Kind.String()
	if f.Mode != backend.Shared {
		s += ", mode " + f.Mode.String()
	}
	if f.Unit != "" {
		s += ", unit " + f.Unit
	}
	if f.Stripes != 0 {
		s += fmt.Sprintf(", %d stripes", f.Stripes)
	}
	if f.Kind == backend.Histogram {
		s += fmt.Sprintf(", buckets %v", f.Buckets)
	}
	return s
}

// blocksFor returns the auxiliary families of f among those of its name.
func (p *page) blocksFor(f *backend.Family, groups []backend.Group) []pageBlocks {
	first := len(p.blocks)
	for i := range groups {
		if groups[i].Family.Aids(f) {
			p.blocks = append(p.blocks, pageBlocks{Group: groups[i]})
		}
	}
	return p.blocks[first:len(p.blocks):len(p.blocks)]
}

// named returns the groups of a name.
func named(groups []backend.Group, name string) []backend.Group {
	from, _ := slices.BinarySearchFunc(groups, name, func(g backend.Group, name string) int { return strings.Compare(g.Family.Name, name) })
	to := from
	for to < len(groups) && groups[to].Family.Name == name {
		to++
	}
	return groups[from:to]
}

// classicGroups reports whether no label of a family's groups needs escaping.
func classicGroups(groups []pageGroup) bool {
	for i := range groups {
		if f := groups[i].Family; !classicLabels(f.Labels) || f.Kind == backend.StateSet && !classicLabels([]string{f.Name}) {
			return false
		}
	}
	return true
}

func (r *Registry) isHidden(f *backend.Family) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hidden[f.Schema()] != nil
}

func typeOf(k backend.Kind) expo.Type {
	switch k {
	case backend.Counter:
		return expo.Counter
	case backend.Gauge:
		return expo.Gauge
	case backend.Histogram:
		return expo.Histogram
	case backend.Summary:
		return expo.Summary
	case backend.Info:
		return expo.Info
	case backend.StateSet:
		return expo.StateSet
	}
	return expo.Untyped
}
