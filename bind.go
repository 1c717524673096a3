package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	_ "github.com/gotheus/gotheus/internal/backend/shm" // scheme shm:
)

// EnvBackend is the environment variable with the URL that the default registry is bound to if the
// program does not bind it.
const EnvBackend = "GOTHEUS_BACKEND"

// ErrBound says that a registry is bound to a backend already.
var ErrBound = errors.New("gotheus: already bound to a backend")

const (
	// envDelay is how long after the first metric GOTHEUS_BACKEND is applied if nothing has asked for
	// it before: long enough for main to bind another backend, short enough for a worker that is
	// never scraped.
	envDelay = 100 * time.Millisecond

	reopenFirst, reopenMost   = time.Second, 30 * time.Second
	promoteFirst, promoteMost = 5 * time.Millisecond, 5 * time.Second

	// flushWait is how long Flush and Close wait at most for room for what is postponed: a disk may
	// stay full for ever, and programs close with a context that never ends.
	flushWait = time.Second

	// turnWait is how long Flush and Close wait at most for a bind in progress, and how long one to
	// GOTHEUS_BACKEND may take: a driver may hang.
	turnWait = 10 * time.Second
)

// Bind moves all metrics of r, those there are and those to come, to the backend that the URL names:
//
//	heap:                              the memory of this process, as without a backend
//	shm:///dev/shm/shop?limit=64MiB    a file that all processes of the host share, see package shm
//	redis://host:6379?ns=shop          Redis or Valkey, if the program imports module redisstore
//
// Bind may be called at any time, while metrics are being updated: what was counted before is carried
// over, and nothing is lost or counted twice. It waits for scrapes, and for another Bind or Close,
// in progress until ctx ends.
//
// If the backend cannot be opened, the error is returned and logged, counting goes on in the heap,
// gotheus_backend_up is 0, and r tries again in the background until it succeeds or Bind or Close
// is called; only a URL whose scheme is unknown is not tried again. A registry that is bound
// already returns ErrBound, also if it is the default one and GOTHEUS_BACKEND has bound it: Bind
// should be among the first things that main does.
func (r *Registry) Bind(ctx context.Context, rawURL string) error {
	r.envDone.Store(true) // an explicit Bind wins
	return r.bindURL(ctx, rawURL, false)
}

// bindURL binds r to a URL, unless it is that of the environment, and somebody was quicker.
func (r *Registry) bindURL(ctx context.Context, rawURL string, env bool) error {
	name := backend.Redact(rawURL)
	if err := r.beginBind(ctx, name); err != nil {
		return err
	}
	if env && r.envDone.Swap(true) {
		r.endTurn()
		return nil
	}
	r.reopen.halt(ctx)
	request := &asked{name: name}
	r.asked.Store(request)
	r.startSelf()
	err := r.openAndInstall(ctx, rawURL)
	if err != nil {
		request.err.Store(&err)
		if !errors.Is(err, backend.ErrScheme) {
			r.reopen.add(func(ctx context.Context) error { return r.openAgain(ctx, rawURL, request) }, err, reopenFirst, reopenMost)
		}
	}
	r.endTurn()
	if err != nil {
		r.log(slog.LevelError, "open", "the backend cannot be opened; counting goes on in the heap", "backend", name, "error", err)
	}
	return err
}

// beginBind takes the turn, unless r is bound.
func (r *Registry) beginBind(ctx context.Context, name string) error {
	r.reopen.interrupt()
	if err := r.takeTurn(ctx); err != nil {
		return fmt.Errorf("gotheus: not bound to %s: %w", name, err)
	}
	if old := r.asked.Load(); old != nil && !r.current().local {
		r.endTurn()
		return fmt.Errorf("%w: %s, so not to %s; Close comes first", ErrBound, old.name, name)
	}
	return nil
}

// openAndInstall opens a backend and makes it r's. opMu is held.
func (r *Registry) openAndInstall(ctx context.Context, rawURL string) error {
	b, err := backend.Open(ctx, rawURL)
	if err != nil {
		return err
	}
	if err := r.install(ctx, b); err != nil {
		return errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	if n, ok := b.(backend.Noticer); ok {
		for _, notice := range n.Notices() {
			r.logLater(func() { r.logger().Warn("gotheus: "+notice, "backend", backend.Redact(rawURL)) })
		}
	}
	return nil
}

// openAgain is the retry for a request, unless there has been another one, or Close, since.
func (r *Registry) openAgain(ctx context.Context, rawURL string, request *asked) error {
	if err := r.takeTurn(ctx); err != nil {
		return err
	}
	if r.asked.Load() != request {
		r.endTurn()
		return nil
	}
	err := r.openAndInstall(ctx, rawURL)
	r.endTurn()
	if err == nil {
		r.log(slog.LevelInfo, "opened", "the backend is open now", "backend", request.name)
	}
	return err
}

// BindBackend is Bind for a backend at hand, which r then owns: it is closed by Close. If ctx ends while
// scrapes are in progress, nothing has happened. The error wraps ErrInvalid if b is nil.
func (r *Registry) BindBackend(ctx context.Context, b backend.Backend) error {
	if b == nil {
		return fmt.Errorf("%w: BindBackend: the backend is nil", ErrInvalid)
	}
	r.envDone.Store(true)
	name := fmt.Sprintf("%T", b)
	if err := r.beginBind(ctx, name); err != nil {
		return err
	}
	defer r.endTurn()
	before, own := r.asked.Load(), r.self.Load()
	r.asked.Store(&asked{name: name})
	r.startSelf()
	if err := r.install(ctx, b); err != nil { // what was asked for before is tried again
		r.asked.Store(before)
		if own == nil {
			r.stopSelf()
		}
		return err
	}
	r.reopen.halt(ctx)
	return nil
}

// install makes b the backend of r, when no scrape is in progress. opMu is held.
func (r *Registry) install(ctx context.Context, b backend.Backend) error {
	r.binding.Store(true) // no more scrapes begin
	defer r.binding.Store(false)
	if err := poll(ctx, r.scrapeMu.TryLock); err != nil {
		return fmt.Errorf("gotheus: waiting for scrapes in progress: %w", err)
	}
	defer r.scrapeMu.Unlock()
	bound := &binding{Backend: b}
	if n, ok := b.(backend.Numbered); ok {
		bound.number = n.Number()
	}
	if c, ok := b.(backend.Clocked); ok {
		c.SetClock(r.Now)
	}
	r.moveAll(bound)
	r.unsaved.Store(nil)
	for _, f := range r.allFamilies() {
		f.watch()
	}
	r.sampler.start(r)
	return nil
}

// tryScrape begins a scrape unless a bind is in progress. scrapeMu.RUnlock ends it.
func (r *Registry) tryScrape() bool { return !r.binding.Load() && r.scrapeMu.TryRLock() }

// takeTurn takes opMu, unless a bind or Close is in progress until ctx ends.
func (r *Registry) takeTurn(ctx context.Context) error {
	if err := poll(ctx, r.opMu.TryLock); err != nil {
		name := "a backend"
		if request := r.asked.Load(); request != nil {
			name = request.name
		}
		return fmt.Errorf("a Bind to %s, or a Close of it, is in progress: %w", name, err)
	}
	return nil
}

// endTurn gives opMu back, and logs what had to wait for that: a logger may flush.
func (r *Registry) endTurn() {
	r.opMu.Unlock()
	r.mu.Lock()
	held := r.heldLog
	r.heldLog, r.holdLog = nil, false
	r.mu.Unlock()
	for _, log := range held {
		log()
	}
}

// logLater logs at the end of the turn. opMu is held.
func (r *Registry) logLater(line func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heldLog = append(r.heldLog, line)
}

// poll tries a lock until it is taken or ctx ends: those of package sync know no contexts.
func poll(ctx context.Context, try func() bool) error {
	for wait := 10 * time.Microsecond; !try(); wait = min(2*wait, time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}

// moveAll moves everything to another backend. New series go there from the first instruction on; a
// series that is being made for the old one meanwhile is in its family's list before the family's lock
// is free. What is logged waits for the end of the turn.
func (r *Registry) moveAll(to *binding) {
	r.mu.Lock()
	r.holdLog = true
	r.mu.Unlock()
	r.current()
	r.moveMu.Lock()
	r.bound.Store(to)
	r.moveMu.Unlock()
	families := r.allFamilies()
	// If there is not room for all, at least what says so has some.
	slices.SortStableFunc(families, func(a, b *family) int { return cmp.Compare(b.rank(), a.rank()) })
	for _, f := range families {
		f.declare()
		f.mu.Lock()
		f.usual = nil // it would keep the backend that is left, with all that is in it
		list := slices.Collect(f.all())
		f.mu.Unlock()
		for _, m := range list {
			if err := r.settle(m); err != nil {
				f.postpone(err, func() error { return r.settle(m) })
				f.logPostponed(err)
			}
		}
	}
}

// rank is 1 for the library's own families.
func (f *family) rank() int {
	if strings.HasPrefix(f.def.Name, f.reg.opts.Prefix+ownPrefix) {
		return 1
	}
	return 0
}

func (r *Registry) allFamilies() []*family {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*family, 0, len(r.families)+len(r.hidden))
	for _, f := range r.families {
		list = append(list, f)
	}
	for _, f := range r.hidden {
		list = append(list, f)
	}
	return list
}

// settle moves a series to the registry's backend, if it is not there.
func (r *Registry) settle(m instrument) error {
	s := m.base()
	f := s.fam()
	f.mu.Lock() // so that it is not deleted meanwhile
	defer f.unlock()
	for s.spot.Load().listed {
		b := r.current()
		words, refused, err := f.cells(b, s.row.Labels)
		if err != nil {
			s.wait(true) // the caller sees to it
			return err
		}
		r.moveMu.Lock()
		settled := r.current() == b // neither bound nor closed meanwhile
		if at := s.spot.Load(); settled && at.home != b {
			var from backend.Words
			if at.private() {
				from = s.words()
			}
			f.put(m, spot{listed: true, waiting: at.waiting, refused: refused, home: b}, words, from)
		}
		r.moveMu.Unlock()
		f.begin(words)
		if e := exponentials(m); e != nil {
			e.carry(m)
		}
		if settled {
			break
		}
	}
	s.wait(false)
	return nil
}

// postpone lets try be tried again until it succeeds. Until then the family's new series count in
// the heap and are on no page, since pages of different processes must agree. It may be called
// under any lock; logPostponed is to follow when none is held.
func (f *family) postpone(err error, try func() error) {
	f.reg.promote.add(func(context.Context) error { return try() }, err, promoteFirst, promoteMost)
}

// logPostponed says once why something of f was postponed.
func (f *family) logPostponed(err error) {
	cause := "postpone " + f.def.Name
	if f.rank() > 0 {
		cause = "postpone own" // one line for all of them
	}
	f.reg.log(slog.LevelWarn, cause, "the backend has no room for a series; it counts in the heap, unseen, until there is room",
		"metric", f.def.Name, "error", err)
}

// Flush returns when everything counted before the call is in the backend and durable there. It
// waits for a Bind, a retry or a Close in progress until ctx ends, but ten seconds at most. If
// there is no room for some series, it waits a second at most, and returns the reason; it returns
// why the backend could not be opened if it is not there at all. After a Close that has failed, it
// returns that error until r is bound again.
func (r *Registry) Flush(ctx context.Context) error {
	r.applyEnv(ctx)
	r.sampleNow(ctx)
	for {
		b, missing, err := r.settled(ctx)
		if err != nil {
			return fmt.Errorf("gotheus: not flushed: %w", err)
		}
		err = errors.Join(missing, r.promote.drain(ctx, flushWait), b.Flush(ctx))
		if r.current() == b { // otherwise what was postponed may have moved elsewhere
			return err
		}
	}
}

// settled returns the backend that all series are in, but for those that are postponed, and what
// notThere says. It waits for a bind or Close in progress: meanwhile, series are still where they
// were, though r has the new backend already.
func (r *Registry) settled(ctx context.Context) (b *binding, missing, err error) {
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if err := r.takeTurn(ctx); err != nil {
		return nil, nil, err
	}
	defer r.endTurn()
	return r.current(), r.notThere(), nil
}

// notThere is the error of a backend that was asked for and could not be opened yet, or that a
// Close has left without having saved all.
func (r *Registry) notThere() error {
	if !r.current().local {
		return nil
	}
	if request := r.asked.Load(); request != nil {
		if err := request.err.Load(); err != nil {
			return fmt.Errorf("gotheus: not in %s: %w", request.name, *err)
		}
	}
	if err := r.unsaved.Load(); err != nil {
		return *err
	}
	return nil
}

// Close flushes, leaves the backend and ends everything that r does in the background. Metrics go
// on in the heap, from zero; r can be bound again, and then carries over what was counted in
// between. Gauges of a mode other than ModeShared keep their values: they are this process's own.
// Series with a time to live stay, and windows of quantiles stand still, until another one is made
// or r is bound again. Closing a registry that is not bound ends what it does in the background.
//
// An error says that not everything is in the backend; Flush and further calls return it, too,
// until r is bound again. If a Bind is still in progress when ctx ends, or after ten seconds, that
// is the error, and r is not closed.
func (r *Registry) Close(ctx context.Context) (err error) {
	r.applyEnv(ctx)
	limited, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	r.reopen.interrupt()
	if err := r.takeTurn(limited); err != nil {
		return fmt.Errorf("gotheus: not closed: %w", err)
	}
	defer r.endTurn()
	defer func() {
		if err != nil {
			r.unsaved.Store(&err)
		}
	}()
	r.reopen.halt(limited)
	r.sweeper.stop(limited)
	r.windows.stop(limited)
	b := r.current()
	if b.local {
		err = r.notThere()
		r.asked.Store(nil)
		r.stopSelf()
		return err
	}
	r.asked.Store(nil)
	r.sampleNow(ctx)
	r.sampler.stop()
	err = r.promote.drain(ctx, flushWait)
	// What is still waiting for room is carried to the heap, too. There it waits no longer: were it forgotten, a series
	// that was deleted meanwhile would be taken for one that is tried again, when somebody who has kept it brings it back.
	r.moveAll(newHeap())
	r.promote.drain(context.WithoutCancel(ctx), flushWait)
	r.promote.halt(context.Background())
	r.candidate.stop() // not before: it stands in the current backend only
	r.stopSelf()
	return errors.Join(err, b.Close(ctx))
}

// startEnv applies GOTHEUS_BACKEND a moment from now.
func (r *Registry) startEnv() {
	if r.env {
		r.envTimer.Do(func() { time.AfterFunc(envDelay, func() { r.applyEnv(context.Background()) }) })
	}
}

// applyEnv applies GOTHEUS_BACKEND unless that was done or an explicit Bind came first. If somebody
// is at it, it waits for the end. Errors are logged and tried again by bindURL.
func (r *Registry) applyEnv(ctx context.Context) {
	if !r.env || r.envDone.Load() {
		return
	}
	rawURL := os.Getenv(EnvBackend)
	if rawURL == "" {
		r.envDone.Store(true)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	r.bindURL(ctx, rawURL, true)
}

// The default registry.
var defaultRegistry atomic.Pointer[Registry]

func init() { defaultRegistry.Store(&Registry{env: true}) }

// Default returns the registry that package-level functions use. Unless the program binds it, it is
// bound to the URL in the environment variable GOTHEUS_BACKEND: at its first page, Flush or Close, or a
// tenth of a second after its first metric, whichever comes first.
func Default() *Registry { return defaultRegistry.Load() }

// SetDefault makes r the registry that package-level functions use from now on, and for which
// GOTHEUS_BACKEND counts. Metrics that exist stay where they are. It is to be called before r is used. It
// panics with an error that wraps ErrInvalid if r is nil.
func SetDefault(r *Registry) {
	if r == nil {
		panic(fmt.Errorf("%w: SetDefault: the registry is nil", ErrInvalid))
	}
	r.env = true
	defaultRegistry.Store(r)
}

// Bind binds the default registry, see Registry.Bind.
func Bind(ctx context.Context, url string) error { return Default().Bind(ctx, url) }

// Close closes the default registry, see Registry.Close.
func Close(ctx context.Context) error { return Default().Close(ctx) }
