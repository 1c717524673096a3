package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/atomicfile"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/retry"
	"github.com/gotheus/gotheus/internal/series"
)

// ErrStale is wrapped by the error of a page of a backend that cannot be read, where what is known
// may be behind what another process has shown; of a page of a registry that was closed, see
// [ErrClosed]; and of a page that had to wait for a Bind for too long. Nothing was written.
var ErrStale = backend.ErrStale

// ErrPartial is wrapped by the error of a strict page that would not have been complete.
var ErrPartial = errors.New("gotheus: the page would not be complete")

// WriteOptions are for Write. The zero value is the whole page in the text format 0.0.4.
type WriteOptions struct {
	Format expo.Format
	// Names selects families by the names of families or samples, with the prefix. Collectors
	// run only if the backend does not have all of them. Nil: all families.
	Names []string
	// Strict makes Write fail with an error that wraps ErrPartial, before anything is written,
	// if the other processes' values cannot be read, or if a collector or family would be left
	// out.
	Strict bool
	// Scope says whose counts the page shows.
	Scope Scope
}

// wholePage has the default options. It is never changed.
var wholePage WriteOptions

// WriteText writes the page in the text format 0.0.4. Collectors and the backend have ten seconds.
func (r *Registry) WriteText(w io.Writer) error { return r.Write(context.Background(), w, nil) }

// Write writes the page: all families of the backend, whichever process defined them, and those of
// the collectors, ordered by name, with series ordered by labels. Nil options stand for the
// defaults. The page is written in pieces while it is encoded. Collectors have until shortly before
// ctx's deadline. If the other processes' values cannot be read, Write writes what is known and
// returns the backend's error; if that wraps [ErrStale], nothing is written. Any other error is the
// writer's or ctx's, and the page ends where it occurred. Families that would make parsers reject
// the page are left out, logged, and counted in gotheus_hidden_series or
// gotheus_collector_errors_total.
func (r *Registry) Write(ctx context.Context, w io.Writer, o *WriteOptions) error {
	syncErr, err := r.write(ctx, w, o)
	return cmp.Or(err, syncErr)
}

// write writes the page. syncErr says why the page may be out of date; after any other error, it is
// incomplete.
func (r *Registry) write(ctx context.Context, w io.Writer, o *WriteOptions) (syncErr, err error) {
	r = r.base()
	start, size := time.Now(), 0
	defer func() { r.scraped(start, size, cmp.Or(err, syncErr)) }()
	if o == nil {
		o = &wholePage
	}
	s, syncErr := r.scrape(ctx, o)
	defer s.end()
	if errors.Is(syncErr, ErrStale) || errors.Is(syncErr, ErrScope) {
		return nil, syncErr
	}
	if o.Strict {
		if err := cmp.Or(syncErr, s.damaged(), s.page.Omitted()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPartial, err)
		}
	}
	size, err = s.page.Write(ctx, w)
	return syncErr, err
}

// WriteFile writes the page to a file, for instance in the directory of node_exporter's textfile
// collector, which reads names that end in .prom. It replaces the file atomically: the page is
// written to a temporary file in the same directory, which is then renamed. The file is readable by
// all users. On error, an existing file stays as it was, unless the only error is that the backend
// could not be read: then the new file has what is known.
func (r *Registry) WriteFile(ctx context.Context, name string, o *WriteOptions) error {
	var syncErr error
	err := atomicfile.Write(name, func(w io.Writer) (err error) {
		syncErr, err = r.write(ctx, w, o)
		return err
	})
	return cmp.Or(err, syncErr)
}

// scrape is one page in the making.
type scrape struct {
	o        *WriteOptions
	page     *page.Page
	own      part
	parts    []*part  // own, and those of the registries that are included
	only     [1]*part // backs parts if nothing is included
	start    time.Time
	deadline time.Time
	gatherBy time.Time // limit for collectors and backends; the rest is for writing
}

// part is what one registry has on a page.
type part struct {
	*scrape
	r          *Registry
	binding    *series.Binding
	locked     bool   // r.scrapeMu is held
	leave      func() // ends the use of the backend's groups
	collected  []*page.Collected
	omitted    error  // what is missing from the page
	err        error  // why the groups may be out of date
	sampledNew uint64 // r.sampledNew before the backend was read
	source     page.Source
	follows    bool // another process leads
}

// scrape gathers what a page is made of, and decides which families are on it. No registry on the
// page is bound to another backend until end is called. If there is an error, the page shows what
// was read before.
func (r *Registry) scrape(ctx context.Context, o *WriteOptions) (s *scrape, err error) {
	r = r.base()
	s = scrapes.Get().(*scrape)
	if o.Scope > ScopeLeader {
		s.page = page.New(page.Options{})
		return s, fmt.Errorf("%w: unknown %v: use ScopeAll, ScopeOwn or ScopeLeader", ErrScope, o.Scope)
	}
	s.o, s.own.r = o, r
	s.page = page.New(page.Options{Format: o.Format, Names: o.Names, Log: &r.home.Log})
	s.parts = append(s.only[:0], &s.own)
	for _, other := range r.included() {
		s.parts = append(s.parts, &part{r: other})
	}
	s.start = time.Now()
	var ok bool
	if s.deadline, ok = ctx.Deadline(); !ok {
		s.deadline = s.start.Add(series.Timeout)
	}
	s.gatherBy = s.deadline.Add(-time.Until(s.deadline) / 5)
	s.each(ctx, (*part).begin)
	for _, p := range inLockOrder(s.parts) {
		if err := p.lock(ctx); err != nil {
			return s, fmt.Errorf("%w: waiting for a bind in progress: %w", ErrStale, err)
		}
	}
	s.each(ctx, (*part).choose)
	for _, p := range s.parts {
		if errors.Is(p.err, ErrScope) || errors.Is(p.err, ErrStale) {
			return s, p.err
		}
		err = cmp.Or(err, p.err)
	}
	s.compose()
	return s, err
}

// scrapes are reused, so that a page of the heap allocates nothing.
var scrapes = sync.Pool{New: func() any { return new(scrape) }}

// each calls f for all parts, concurrently if there are several.
func (s *scrape) each(ctx context.Context, f func(*part, context.Context)) {
	for _, p := range s.parts {
		p.scrape = s
	}
	if len(s.parts) == 1 {
		f(s.parts[0], ctx)
		return
	}
	var wait sync.WaitGroup
	for _, p := range s.parts {
		wait.Go(func() { f(p, ctx) })
	}
	wait.Wait()
}

// begin gathers what does not need the lock, which keeps the registry from being bound to another
// backend.
func (p *part) begin(ctx context.Context) {
	p.r.applyEnv(ctx)
	p.binding, p.sampledNew = p.r.home.Current(), p.r.sampledNew.Load()
	// Waiting costs most of the time that a small page takes, so it is skipped in the heap.
	if !p.binding.Closed && (!p.binding.Local || p.r.hasCollectors()) {
		p.gather(ctx)
	}
}

// compose puts the page together. The backend's families are the same on every page, so they take
// precedence over those that this process collects; and those of a registry, over those of the
// registries that it includes.
func (s *scrape) compose() {
	hidden := 0
	add := func(p *part, families []*page.Collected) {
		for range s.page.AddCollected(families) {
			p.r.home.CountCollectorError()
		}
	}
	for i, p := range s.parts {
		s.page.Omit(p.omitted)
		if !s.isDuplicate(i) {
			hidden += s.page.AddGroups(&p.source)
		}
		add(p, p.collected)
		if p == &s.own {
			add(p, p.r.selfFamilies(p))
		}
	}
	add(&s.own, s.own.r.hiddenFamily(&s.own, hidden))
	s.page.Sort()
}

// end releases the locks and the page.
func (s *scrape) end() {
	for _, p := range s.parts {
		if p.locked {
			p.leave()
			p.r.scrapeMu.RUnlock()
		}
	}
	s.page.Release()
	*s = scrape{}
	scrapes.Put(s)
}

// lock waits for a bind in progress; another one waits for the end of the scrape.
func (p *part) lock(ctx context.Context) (err error) {
	if !p.r.tryScrape() {
		limited, cancel := context.WithDeadline(ctx, p.deadline)
		defer cancel()
		err = retry.Lock(limited, p.r.tryScrape)
	}
	if p.locked = err == nil; p.locked {
		p.leave = p.r.home.Current().Enter()
	}
	return err
}

// choose decides what the registry shows. The lock is held.
func (p *part) choose(ctx context.Context) {
	r, o := p.r, p.o
	now := r.home.Current()
	if now.Closed {
		p.err = ErrClosed
		return
	}
	// The registry was bound or closed meanwhile, or has sampled series that are newer than the
	// Sync.
	if now != p.binding || p.err == nil && r.sampledNew.Load() != p.sampledNew && !now.Local {
		rest, cancel := context.WithTimeout(ctx, time.Until(p.deadline)/2)
		p.binding, p.err = now, r.sync(rest, now, o.Scope)
		cancel()
	}
	r.updateState(ctx, now)
	p.source.Hidden, p.source.Clock = r.home.IsHidden(), &r.home
	if p != &p.own { // the page has the library's own families of s.own
		p.source.Quiet = r.home.Prefix + series.OwnPrefix
	}
	p.source.Groups, p.err = p.groups()
	switch {
	case p.err == nil, errors.Is(p.err, ErrScope), errors.Is(p.err, ErrClosed):
	case errors.Is(p.err, context.DeadlineExceeded) && isUp(now) && p.impatient():
		r.home.Log.Log(slog.LevelWarn, "impatient sync",
			"a scraper did not allow the backend enough time; if it is your own, let it wait longer", "error", p.err)
	case errors.Is(p.err, ErrStale):
		r.home.Log.Log(slog.LevelError, "sync",
			"the backend cannot be read; there is no page, since it would be behind those of other processes",
			"error", p.err)
	case ctx.Err() == nil:
		r.home.Log.Log(slog.LevelError, "sync",
			"the backend cannot be read; the page shows what was read last", "error", p.err)
	}
	// Followers leave these collectors to the leader.
	if o.Scope == ScopeLeader && !p.follows && !errors.Is(p.err, ErrStale) {
		late, cancel := context.WithDeadline(ctx, p.gatherBy)
		p.collectLate(late)
		cancel()
	}
}

// impatient reports whether the scraper allows less time than a backend may be expected to answer
// in. Anybody can do that, and it says nothing about the backend.
func (p *part) impatient() bool { return p.deadline.Sub(p.start) < series.Timeout/2 }

// groups returns the backend's groups for the page's scope.
func (p *part) groups() ([]backend.Group, error) {
	err := p.err
	switch {
	case p.o.Scope == ScopeOwn:
		return p.r.ownGroups(p.binding)
	case p.o.Scope != ScopeLeader:
		return p.binding.Walk(), err
	case err == nil:
		var groups []backend.Group
		if groups, err = p.narrow(p.binding.Walk()); err == nil {
			return groups, nil
		}
	}
	if !errors.Is(err, ErrStale) {
		err = fmt.Errorf("%w: %w", ErrStale, err) // another process may lead
	}
	return nil, err
}

// sync reads what other processes have counted, if a page of this scope needs it. The error is
// ErrClosed if the registry was closed meanwhile.
func (r *Registry) sync(ctx context.Context, b *series.Binding, s Scope) (err error) {
	defer func() {
		if errors.Is(err, backend.ErrClosed) && r.home.Current() != b {
			err = ErrClosed
		}
	}()
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
