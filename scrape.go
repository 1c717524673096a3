package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/retry"
	"github.com/gotheus/gotheus/internal/series"
)

// ErrStale is wrapped by the error of a page of a backend that cannot be read, where what is known may be behind
// what another process has shown. Nothing was written.
var ErrStale = backend.ErrStale

// ErrPartial is wrapped by errors of strict pages that something would have been left out of.
var ErrPartial = errors.New("gotheus: the page would not be complete")

// WriteOptions are for Write. The zero value is the whole page in the text format 0.0.4.
type WriteOptions struct {
	Format expo.Format
	// Names selects families by the names of families or samples, with the prefix. Collectors are
	// asked only if the backend does not have all of them. Nil: all families.
	Names []string
	// Strict makes it an error that wraps ErrPartial, before anything is written, if the backend cannot
	// say what other processes did, or a collector or family would be left out.
	Strict bool
	// Scope says whose counts the page shows.
	Scope Scope
}

// WriteText writes the page in the text format 0.0.4. Collectors and the backend have ten seconds.
func (r *Registry) WriteText(w io.Writer) error { return r.Write(context.Background(), w, nil) }

// Write writes the page: all families of the backend, whichever process made them, and those of the
// collectors, by name, each with its series by label text. Nil options are the default. It writes in
// pieces while it encodes. Collectors have until shortly before ctx's deadline. When the backend cannot say
// what other processes did, the page shows what is known and Write returns the backend's error, but for one
// that wraps [ErrStale], with which nothing is written; otherwise the error is the writer's or ctx's, and the
// page ends where it happened. Families that would make a
// page that parsers reject are left out, logged, and counted in gotheus_hidden_series or
// gotheus_collector_errors_total.
func (r *Registry) Write(ctx context.Context, w io.Writer, o *WriteOptions) (err error) {
	start, size := time.Now(), 0
	defer func() { r.scraped(start, size, err) }()
	if o == nil {
		o = new(WriteOptions)
	}
	s, syncErr := r.scrape(ctx, o)
	defer s.end()
	if errors.Is(syncErr, ErrStale) || errors.Is(syncErr, ErrScope) {
		return syncErr
	}
	if o.Strict {
		if err := cmp.Or(syncErr, s.page.Omitted()); err != nil {
			return fmt.Errorf("%w: %w", ErrPartial, err)
		}
	}
	if size, err = s.page.Write(ctx, w); err != nil {
		return err
	}
	return syncErr
}

// scrape is one page in the making.
type scrape struct {
	r        *Registry
	o        *WriteOptions
	page     *page.Page
	locked   bool              // scrapeMu is held
	only     *backend.Instance // this process, in the scope Leader
	follows  bool              // another process shows what is not its own
	deadline time.Time
	early    time.Time // until when collectors and the backend are waited for; the rest is for writing
}

// scrape asks for what a page is made of, and decides which families are on it. The registry is not
// bound to another backend before the scrape is ended. A page with an error shows what was known
// before.
func (r *Registry) scrape(ctx context.Context, o *WriteOptions) (s *scrape, err error) {
	s = &scrape{r: r, o: o}
	s.page = page.New(page.Options{Format: o.Format, Names: o.Names, Now: r.home.Now, Log: &r.home.Log})
	r.applyEnv(ctx)
	var ok bool
	if s.deadline, ok = ctx.Deadline(); !ok {
		s.deadline = time.Now().Add(series.Timeout)
	}
	s.early = s.deadline.Add(-time.Until(s.deadline) / 5)
	b := r.home.Current()
	before := r.sampledNew.Load()
	var collected []*page.Collected
	if !b.Local || r.hasCollectors() {
		collected, err = s.ask(ctx, b)
	} // else there is nobody to wait for, which would cost most of what a small page does
	if err := s.lock(ctx); err != nil {
		return s, err
	}
	now := r.home.Current()
	// Bound or closed meanwhile; or there are series that were not there when others' were looked for.
	if now != b || err == nil && r.sampledNew.Load() != before && !now.Local {
		rest, cancel := context.WithTimeout(ctx, time.Until(s.deadline)/2)
		b, err = now, r.sync(rest, now, o.Scope)
		cancel()
	}
	groups, err := s.groups(b, err)
	if errors.Is(err, ErrScope) {
		return s, err
	}
	if errors.Is(err, ErrStale) {
		r.home.Log.Log(slog.LevelError, "sync", "the backend cannot be read; there is no page, since it would be behind those of other processes", "error", err)
		return s, err
	}
	if err != nil && ctx.Err() == nil {
		r.home.Log.Log(slog.LevelError, "sync", "the backend cannot be read; the page shows what is known", "error", err)
	}
	if o.Scope == ScopeLeader && !s.follows { // else they are on the leader's page
		late, cancel := context.WithDeadline(ctx, s.early)
		collected = s.askLate(late, b)
		cancel()
	}
	s.compose(groups, collected)
	return s, err
}

// compose puts the page together. The backend's families are the same on every page, so they win over
// those that are made here.
func (s *scrape) compose(groups []backend.Group, collected []*page.Collected) {
	r := s.r
	s.page.Only(s.only)
	hidden := s.page.AddGroups(page.Source{Groups: groups, Hidden: r.home.IsHidden()})
	own := r.selfFamilies(s, groups, hidden)
	for range s.page.AddCollected(append(collected, own...)) {
		r.home.CountCollectorError()
	}
	s.page.Sort()
}

// groups returns what the backend has for a page of the scope. err is Sync's.
func (s *scrape) groups(b *series.Binding, err error) ([]backend.Group, error) {
	switch {
	case s.o.Scope == ScopeOwn:
		return s.r.ownGroups(b)
	case s.o.Scope != ScopeLeader:
		return b.Walk(), err
	case err == nil:
		var groups []backend.Group
		if groups, err = s.narrow(b, b.Walk()); err == nil {
			return groups, nil
		}
	}
	if !errors.Is(err, ErrStale) {
		err = fmt.Errorf("%w: %w", ErrStale, err) // there may be another leader
	}
	return nil, err
}

// lock waits for a bind in progress; another one waits for end.
func (s *scrape) lock(ctx context.Context) (err error) {
	if !s.r.tryScrape() {
		limited, cancel := context.WithDeadline(ctx, s.deadline)
		defer cancel()
		err = retry.Lock(limited, s.r.tryScrape)
	}
	s.locked = err == nil
	return err
}

// end releases what the scrape has held.
func (s *scrape) end() {
	if s.locked {
		s.r.scrapeMu.RUnlock()
	}
	s.page.Release()
}

// sync brings what is known up to date, as far as a page of this scope needs it.
func (r *Registry) sync(ctx context.Context, b *series.Binding, s Scope) error {
	switch {
	case s == ScopeOwn:
		return nil
	case s == ScopeLeader && !b.Local:
		if err := r.leader.Stand(b.Backend, func() bool { return r.home.Current() == b }); err != nil {
			return err
		}
	}
	return b.Sync(ctx)
}

// askLate asks collectors of what is alike in all processes, when it is known that this one shows it.
func (s *scrape) askLate(ctx context.Context, b *series.Binding) (collected []*page.Collected) {
	var omitted error
	switch {
	case len(s.o.Names) == 0:
		collected, omitted = s.r.collect(ctx, ofAll)
	case !s.o.foundIn(b):
		collected, omitted = s.r.collect(ctx, everybody)
	}
	s.page.Omit(omitted)
	return collected
}

// ask lets the backend see what other processes did, and collectors make their families, side by side, until some time.
func (s *scrape) ask(ctx context.Context, b *series.Binding) (collected []*page.Collected, err error) {
	r, o := s.r, s.o
	early, cancel := context.WithDeadline(ctx, s.early)
	defer cancel()
	whom := everybody
	if remote := backend.IsRemote(b.Backend); len(o.Names) == 0 && (remote && o.Scope != ScopeOwn || o.Scope == ScopeLeader) {
		// What they store is on the page when Sync has published it. Half of the time is for Sync.
		first, cancel := context.WithDeadline(early, s.deadline.Add(-time.Until(s.deadline)*3/5))
		_, omitted := r.collect(first, ofInstance)
		s.page.Omit(omitted)
		cancel()
		whom = ofAll
	}
	synced := make(chan error, 1)
	go func() { synced <- r.sync(early, b, o.Scope) }()
	if len(o.Names) == 0 && o.Scope != ScopeLeader {
		var omitted error
		collected, omitted = r.collect(early, whom)
		s.page.Omit(omitted)
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
	if o.Scope != ScopeLeader && !o.foundIn(b) {
		var omitted error
		collected, omitted = r.collect(early, everybody)
		s.page.Omit(omitted)
	}
	return collected, err
}

// lateSync gives a Sync that has been told to end a twentieth of the time that is left to say what its end means.
func (r *Registry) lateSync(ctx context.Context, synced <-chan error) error {
	left := series.Timeout / 5
	if d, ok := ctx.Deadline(); ok {
		left = time.Until(d)
	}
	timer := time.NewTimer(left / 20)
	defer timer.Stop()
	select {
	case err := <-synced:
		return err
	case <-timer.C:
		if backend.IsRemote(r.home.Current().Backend) { // what is known may be behind another page
			return fmt.Errorf("%w: %w", ErrStale, context.DeadlineExceeded)
		}
		return context.DeadlineExceeded
	}
}

// foundIn reports whether the backend has all names that are asked for.
func (o *WriteOptions) foundIn(b backend.Backend) bool {
	if len(o.Names) == 0 {
		return true
	}
	groups := b.Walk()
	for _, name := range o.Names {
		if !slices.ContainsFunc(groups, func(g backend.Group) bool {
			return names.Means(name, o.Format.NameEscaping(), names.TypeOf(g.Family.Kind), g.Family.Name)
		}) {
			return false
		}
	}
	return true
}
