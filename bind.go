package gotheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/internal/retry"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/store"
)

// ErrBound is wrapped by the error of Bind if the registry is already bound to another backend, or
// if GOTHEUS_BACKEND names another one for it.
var ErrBound = errors.New("gotheus: already bound to a backend")

// ErrClosed, which wraps ErrStale, is wrapped by the error of a page of a registry that was closed
// and has not been bound again. Nothing was written.
var ErrClosed = fmt.Errorf("gotheus: the registry is closed: %w", ErrStale)

// ErrScheme is wrapped by the error of Bind if the program has no driver for the URL's scheme: it
// does not import the package that registers one.
var ErrScheme = open.ErrScheme

const (
	// envDelay is how long after the first metric GOTHEUS_BACKEND is applied in a worker that
	// is never scraped. It decides nothing but that: drivers register themselves in init
	// functions, which come after those of some metrics.
	envDelay = 100 * time.Millisecond

	reopenFirst, reopenLast = time.Second, 30 * time.Second

	// flushWait is how long Flush and Close wait at most for room for postponed series: a disk
	// may stay full for ever, and programs call Close with contexts that never end.
	flushWait = time.Second

	// turnWait is how long Flush and Close wait at most for a bind in progress, and how long
	// binding to GOTHEUS_BACKEND may take: a driver may hang.
	turnWait = 10 * time.Second

	// contactWait is how long Bind and BindStore wait at most to learn that a store refuses.
	contactWait = 2 * time.Second
)

// bindState is the state of a registry's binding to backends.
type bindState struct {
	turn       sync.Mutex                  // held by one bind, retry or Close at a time
	inProgress atomic.Bool                 // a bind is waiting for scrapes to end
	requested  atomic.Pointer[bindRequest] // the requested backend, even if it is not open yet
	unsaved    atomic.Pointer[error]       // why the last Close could not save all
	reopen     retry.Queue                 // retries of opening a backend

	env      bool // GOTHEUS_BACKEND applies
	envTimer sync.Once
	envDone  atomic.Bool // it was applied, or a page or Bind found it unset
}

// bindRequest is a request to bind to a backend.
type bindRequest struct {
	name   string
	url    bool                  // name is a URL
	rawURL string                // the URL with its passwords; "": it has none
	env    bool                  // GOTHEUS_BACKEND names it
	err    atomic.Pointer[error] // why it is not open yet
}

// Bind moves all metrics of r, existing and future ones, to the backend that the URL names:
//
//	heap:                              the memory of this process, as without a backend
//	shm:///dev/shm/shop?limit=64MiB    a file that all processes of the host share
//	redis://host:6379?ns=shop          Redis or Valkey, if the program imports module redisstore
//
// or any other scheme that a package in the program has registered, see [store.Register].
//
// Bind may be called at any time, also while metrics are being updated: what was counted before is
// carried over, and nothing is lost or counted twice. Until ctx ends, it waits for scrapes and for
// another Bind or Close in progress.
//
// If the backend cannot be opened, the error is returned and logged, counting goes on in the heap,
// gotheus_backend_up is 0, and r retries in the background until it succeeds or Bind or Close is
// called. A URL that can never work is not retried: one with an unknown scheme, where the error
// wraps ErrScheme, or one that is malformed, where it wraps [store.ErrInvalid].
//
// If a server answers within two seconds that it refuses, such as for a wrong password, r is bound,
// counting and trying go on, and the error wraps [store.ErrRefused]; for a server that is merely
// away, there is no error.
//
// If r is already bound to the same URL, Bind does nothing. If it is bound to another backend, the
// error wraps ErrBound and nothing changes. The same applies to the default registry whenever
// GOTHEUS_BACKEND is set: it is bound to that URL or to none, however early Bind is called, until
// Close.
func (r *Registry) Bind(ctx context.Context, rawURL string) error {
	return r.base().bindURL(ctx, rawURL, false)
}

// bindURL binds r to a URL. If env is set, the URL is that of the environment, and bindURL does
// nothing if it was applied in the meantime.
func (r *Registry) bindURL(ctx context.Context, rawURL string, env bool) error {
	name := store.RedactURL(rawURL)
	bound, err := r.beginBind(ctx, rawURL, name)
	if err != nil {
		return err
	}
	request := &bindRequest{name: name, url: true, rawURL: rawURL, env: env || r.envURL() == rawURL}
	if done := r.bind.envDone.Swap(true); bound || env && done {
		r.endTurn()
		return nil
	}
	r.bind.reopen.Halt(ctx)
	r.bind.requested.Store(request)
	r.startSelf()
	err = r.openAndInstall(ctx, rawURL)
	if err != nil {
		request.err.Store(&err)
		// The driver of the environment's URL may not have registered itself yet.
		if (request.env || !errors.Is(err, ErrScheme)) && !errors.Is(err, store.ErrInvalid) {
			r.bind.reopen.Add(func(ctx context.Context) error { return r.openAgain(ctx, rawURL, request) }, err, reopenFirst, reopenLast)
		}
	}
	b := r.home.Current()
	r.endTurn()
	switch {
	case err != nil:
		r.home.Log.Log(slog.LevelError, "open", "the backend cannot be opened; counting goes on in the heap", "backend", name, "error", err)
	case env: // nobody gets the error
		go func() {
			if err := refusal(context.Background(), b); err != nil {
				r.home.Log.Log(slog.LevelError, "refused", "the backend refuses; counting and trying go on", "backend", name, "error", err)
			}
		}()
	default:
		err = refusal(ctx, b)
	}
	return err
}

// refusal waits for the first contact with the store that b is on, if any, for contactWait at most.
// It returns an error only if the store has refused: a store that is merely away may come back.
func refusal(ctx context.Context, b *series.Binding) error {
	c, ok := b.Backend.(backend.Contacter)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, contactWait)
	defer cancel()
	if err := c.FirstContact(ctx); errors.Is(err, store.ErrRefused) {
		return fmt.Errorf("gotheus: %w; counting and trying go on", err)
	}
	return nil
}

// beginBind takes the turn, or returns an error if r is, or must be, bound to another backend.
// bound reports that r is bound to the URL already. An empty URL differs from all others.
func (r *Registry) beginBind(ctx context.Context, rawURL, name string) (bound bool, err error) {
	if err := r.checkEnv(rawURL, name); err != nil { // at once
		return false, err
	}
	r.bind.reopen.Interrupt()
	if err := r.takeTurn(ctx); err != nil {
		return false, fmt.Errorf("gotheus: cannot bind to %s: %w", name, err)
	}
	old := r.bind.requested.Load()
	bound = old != nil && !r.home.Current().Local
	switch {
	case bound && (rawURL == "" || old.rawURL != rawURL):
		err = fmt.Errorf("%w: %s; call Close before binding to %s", ErrBound, old.name, name)
	case !bound:
		err = r.checkEnv(rawURL, name)
	}
	if err != nil {
		r.endTurn()
	}
	return bound, err
}

// envURL returns the URL in GOTHEUS_BACKEND as long as it decides what r is bound to, and otherwise
// "".
func (r *Registry) envURL() string {
	if request := r.bind.requested.Load(); request != nil && request.env {
		return request.rawURL
	}
	if !r.bind.env || r.bind.envDone.Load() {
		return ""
	}
	return os.Getenv(EnvBackend)
}

// checkEnv returns an error if the environment decides that r is bound to another URL. Whether its
// backend is open yet makes no difference, since that is a matter of time.
func (r *Registry) checkEnv(rawURL, name string) error {
	if env := r.envURL(); env != "" && env != rawURL {
		return fmt.Errorf("%w: %s=%s in the environment takes precedence over binding to %s: unset it when the program starts, or call Close first",
			ErrBound, EnvBackend, store.RedactURL(env), name)
	}
	return nil
}

// openAndInstall opens a backend and binds r to it. The turn is held.
func (r *Registry) openAndInstall(ctx context.Context, rawURL string) error {
	b, err := open.URL(ctx, rawURL, r.home.Log.Forward())
	if err != nil {
		return err
	}
	if err := r.install(ctx, func() (backend.Backend, error) { return b, nil }); err != nil {
		return errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	if n, ok := b.(backend.Noticer); ok {
		for _, notice := range n.Notices() {
			r.home.Log.Later(slog.LevelWarn, notice, "backend", store.RedactURL(rawURL))
		}
	}
	return nil
}

// openAgain retries a request, unless it was superseded by another one or by Close.
func (r *Registry) openAgain(ctx context.Context, rawURL string, request *bindRequest) error {
	if err := r.takeTurn(ctx); err != nil {
		return err
	}
	if r.bind.requested.Load() != request {
		r.endTurn()
		return nil
	}
	err := r.openAndInstall(ctx, rawURL)
	r.endTurn()
	if err == nil {
		r.home.Log.Log(slog.LevelInfo, "opened", "the backend is now open", "backend", request.name)
	}
	return err
}

// BindStore is like Bind for stores that are already open. From then on r owns them, and Close
// closes them. It waits for a quarter of a second at most to learn which series they have: while
// they cannot be reached, metrics go on counting in memory. If c.Options has no logger, r's is
// used.
//
// If a store refuses within two seconds, r owns the stores all the same, counting and trying go on,
// and the error wraps [store.ErrRefused]. After any other error, nothing has changed, and the
// stores are still the caller's. That error wraps ErrInvalid if c is nil, has no shards or a nil
// one, or has invalid options; it wraps ErrBound if r is already bound, and is that of ctx if ctx
// ends while scrapes, or another Bind or Close, are in progress.
func (r *Registry) BindStore(ctx context.Context, c *store.Config) error {
	if err := open.Check(c); err != nil {
		return fmt.Errorf("gotheus: BindStore: %w", invalidStore{err})
	}
	return r.bindNew(ctx, fmt.Sprintf("%T", c.Shards[0]), func() (backend.Backend, error) {
		return open.Stores(c, r.base().home.Log.Forward())
	})
}

// invalidStore is an error about an argument that wraps ErrInvalid, besides store.ErrInvalid.
type invalidStore struct{ error }

func (e invalidStore) Unwrap() []error { return []error{e.error, ErrInvalid} }

// Backend is what BindBackend takes. Only packages of this module make backends, and its methods
// may change in any release. To keep metrics in a place of your own, implement [store.Store].
type Backend = backend.Backend

// BindBackend is like Bind for a backend that is already open; it is for packages of this module.
// From then on r owns it, and Close closes it. If ctx ends while scrapes are in progress, nothing
// has changed. The error wraps ErrInvalid if b is nil.
func (r *Registry) BindBackend(ctx context.Context, b Backend) error {
	if p := reflect.ValueOf(b); b == nil || p.Kind() == reflect.Pointer && p.IsNil() {
		return fmt.Errorf("%w: BindBackend: the backend is nil", ErrInvalid)
	}
	return r.bindNew(ctx, fmt.Sprintf("%T", b), func() (backend.Backend, error) { return b, nil })
}

// bindNew binds r to the backend that create returns. It calls create last, when nothing else can
// fail.
func (r *Registry) bindNew(ctx context.Context, name string, create func() (backend.Backend, error)) error {
	r = r.base()
	b, err := r.bindTo(ctx, name, create)
	if err != nil {
		return err
	}
	return refusal(ctx, b)
}

// bindTo is bindNew, except that it does not wait for a store.
func (r *Registry) bindTo(ctx context.Context, name string, create func() (backend.Backend, error)) (*series.Binding, error) {
	if _, err := r.beginBind(ctx, "", name); err != nil {
		return nil, err
	}
	defer r.endTurn()
	r.bind.envDone.Store(true)
	requestBefore, selfBefore := r.bind.requested.Load(), r.self.Load()
	r.bind.requested.Store(&bindRequest{name: name})
	r.startSelf()
	if err := r.install(ctx, create); err != nil { // the earlier request is still being retried
		r.bind.requested.Store(requestBefore)
		if selfBefore == nil {
			r.stopSelf()
		}
		return nil, err
	}
	r.bind.reopen.Halt(ctx)
	return r.home.Current(), nil
}

// install binds r to the backend that create returns, while no scrape is in progress. The turn is
// held.
func (r *Registry) install(ctx context.Context, create func() (backend.Backend, error)) error {
	r.bind.inProgress.Store(true) // keeps new scrapes from starting
	defer r.bind.inProgress.Store(false)
	if err := retry.Lock(ctx, r.scrapeMu.TryLock); err != nil {
		return fmt.Errorf("gotheus: waiting for scrapes in progress: %w", err)
	}
	defer r.scrapeMu.Unlock()
	b, err := create()
	if err != nil {
		return err
	}
	if c, ok := b.(backend.Clocked); ok {
		c.SetClock(r.Now)
	}
	r.home.MoveAll(series.Bound(b))
	r.bind.unsaved.Store(nil)
	for _, f := range r.home.Families() {
		f.Watch()
	}
	r.home.StartReclaiming()
	r.startSampling()
	return nil
}

// tryScrape starts a scrape unless a bind is in progress. scrapeMu.RUnlock ends it.
func (r *Registry) tryScrape() bool { return !r.bind.inProgress.Load() && r.scrapeMu.TryRLock() }

// takeTurn takes the turn. It waits for a bind or Close in progress until ctx ends.
func (r *Registry) takeTurn(ctx context.Context) error {
	if err := retry.Lock(ctx, r.bind.turn.TryLock); err != nil {
		name := "a backend"
		if request := r.bind.requested.Load(); request != nil {
			name = request.name
		}
		return fmt.Errorf("a Bind to or a Close of %s is in progress: %w", name, err)
	}
	return nil
}

// endTurn releases the turn and then writes the log lines held meanwhile: a logger may call Flush.
func (r *Registry) endTurn() {
	r.bind.turn.Unlock()
	r.home.Log.Release()
}

// Flush returns when everything counted before the call is durable in the backend. It waits for a
// Bind, a retry or a Close in progress until ctx ends, but for ten seconds at most. If the backend
// has no room for some series, Flush waits for a second at most and returns the reason; if the
// backend could not be opened, it returns why. After a Close that failed, it returns that error
// until r is bound again.
func (r *Registry) Flush(ctx context.Context) error {
	r = r.base()
	r.applyEnv(ctx)
	r.sampleNow(ctx)
	for {
		b, missing, err := r.settled(ctx)
		if err != nil {
			return fmt.Errorf("gotheus: not flushed: %w", err)
		}
		err = errors.Join(missing, r.home.Postponed.Drain(ctx, flushWait), b.Flush(ctx))
		if r.home.Current() == b { // otherwise what was postponed may have moved elsewhere
			return err
		}
	}
}

// settled returns the backend that all series are in, except those that are postponed, and the
// error of whyMissing. It waits for a bind or Close in progress, during which r already has the new
// backend while series may still be in the old one.
func (r *Registry) settled(ctx context.Context) (b *series.Binding, missing, err error) {
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if err := r.takeTurn(ctx); err != nil {
		return nil, nil, err
	}
	defer r.endTurn()
	return r.home.Current(), r.whyMissing(), nil
}

// whyMissing returns why values are not in the requested backend: it is not open yet, or the last
// Close failed to save everything.
func (r *Registry) whyMissing() error {
	if !r.home.Current().Local {
		return nil
	}
	if request := r.bind.requested.Load(); request != nil {
		if err := request.err.Load(); err != nil {
			return fmt.Errorf("gotheus: no values are in %s: %w", request.name, *err)
		}
	}
	if err := r.bind.unsaved.Load(); err != nil {
		return *err
	}
	return nil
}

// Close flushes, leaves the backend and ends all of r's background work. Metrics go on counting in
// the heap, from zero; r can be bound again, which carries over what was counted in between. Gauges
// with a mode other than ModeShared keep their values, since these belong to this process. Series
// do not expire, and windows of quantiles stand still, until another such metric is defined or r is
// bound again.
//
// Until r is bound again, which may be to heap:, there are no pages of r, nor of registries that
// include it: counters would have gone back to zero, which scrapers take for a restart. Whatever
// makes a page returns an error that wraps ErrClosed, and handlers answer 503: shut the page's
// server down first, or let the last scrapes fail. Closing a registry that is not bound only ends
// its background work.
//
// An error means that not everything has reached the backend; Flush and further calls of Close
// return it, too, until r is bound again. If a Bind is still in progress when ctx ends, or after
// ten seconds, Close returns an error and r is not closed.
func (r *Registry) Close(ctx context.Context) (err error) {
	r = r.base()
	r.applyEnv(ctx)
	limited, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	r.bind.reopen.Interrupt()
	if err := r.takeTurn(limited); err != nil {
		return fmt.Errorf("gotheus: not closed: %w", err)
	}
	defer r.endTurn()
	defer func() {
		if err != nil {
			r.bind.unsaved.Store(&err)
		}
	}()
	r.bind.reopen.Halt(limited)
	r.home.StopWatching(limited)
	b := r.home.Current()
	if b.Local {
		err = r.whyMissing()
		r.bind.requested.Store(nil)
		r.stopSelf()
		return err
	}
	r.bind.requested.Store(nil)
	r.sampleNow(ctx)
	r.sampler.Stop(context.Background())
	err = r.home.Postponed.Drain(ctx, flushWait)
	// Series that still wait for room move to the heap, too, where they have room. They must
	// not stay marked as waiting: if one was deleted meanwhile and an update of a kept
	// instrument brought it back, it would be taken for one that is already being retried.
	r.home.MoveAll(series.ClosedHeap())
	r.home.Postponed.Drain(context.WithoutCancel(ctx), flushWait)
	r.home.Postponed.Halt(context.Background())
	r.leader.Stop() // not earlier: it is a candidate in the current backend only
	r.stopSelf()
	return errors.Join(err, b.Close(ctx))
}
