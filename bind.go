package gotheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/open"
	"github.com/gotheus/gotheus/internal/retry"
	"github.com/gotheus/gotheus/internal/series"
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

	reopenFirst, reopenLast = time.Second, 30 * time.Second

	// flushWait is how long Flush and Close wait at most for room for what is postponed: a disk may
	// stay full for ever, and programs close with a context that never ends.
	flushWait = time.Second

	// turnWait is how long Flush and Close wait at most for a bind in progress, and how long one to
	// GOTHEUS_BACKEND may take: a driver may hang.
	turnWait = 10 * time.Second
)

// bindState is what binding a registry needs to remember.
type bindState struct {
	turn       sync.Mutex                  // held by one Bind, BindBackend, retry or Close at a time
	inProgress atomic.Bool                 // a bind waits for scrapes to end
	requested  atomic.Pointer[bindRequest] // the backend that was asked for, also if it is not there yet
	unsaved    atomic.Pointer[error]       // why a Close has left something behind; nil: it has not, or r was bound since
	reopen     retry.Queue                 // opening a backend that could not be opened

	env      bool // GOTHEUS_BACKEND applies
	envTimer sync.Once
	envDone  atomic.Bool // set while the turn is held, or by an explicit Bind
}

// bindRequest is a request for a backend.
type bindRequest struct {
	name string
	err  atomic.Pointer[error] // why it could not be opened at first
}

// Bind moves all metrics of r, those there are and those to come, to the backend that the URL names:
//
//	heap:                              the memory of this process, as without a backend
//	shm:///dev/shm/shop?limit=64MiB    a file that all processes of the host share, see package shm
//	redis://host:6379?ns=shop          Redis or Valkey, if the program imports module redisstore
//
// or any other scheme that a package of the program has registered, see store.Register.
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
	r.bind.envDone.Store(true) // an explicit Bind wins
	return r.bindURL(ctx, rawURL, false)
}

// bindURL binds r to a URL, unless it is that of the environment, and somebody was quicker.
func (r *Registry) bindURL(ctx context.Context, rawURL string, env bool) error {
	name := backend.Redact(rawURL)
	if err := r.beginBind(ctx, name); err != nil {
		return err
	}
	if env && r.bind.envDone.Swap(true) {
		r.endTurn()
		return nil
	}
	r.bind.reopen.Halt(ctx)
	request := &bindRequest{name: name}
	r.bind.requested.Store(request)
	r.startSelf()
	err := r.openAndInstall(ctx, rawURL)
	if err != nil {
		request.err.Store(&err)
		if !errors.Is(err, ErrScheme) {
			r.bind.reopen.Add(func(ctx context.Context) error { return r.openAgain(ctx, rawURL, request) }, err, reopenFirst, reopenLast)
		}
	}
	r.endTurn()
	if err != nil {
		r.home.Log.Log(slog.LevelError, "open", "the backend cannot be opened; counting goes on in the heap", "backend", name, "error", err)
	}
	return err
}

// beginBind takes the turn, unless r is bound.
func (r *Registry) beginBind(ctx context.Context, name string) error {
	r.bind.reopen.Interrupt()
	if err := r.takeTurn(ctx); err != nil {
		return fmt.Errorf("gotheus: not bound to %s: %w", name, err)
	}
	if old := r.bind.requested.Load(); old != nil && !r.home.Current().Local {
		r.endTurn()
		return fmt.Errorf("%w: %s, so not to %s; Close comes first", ErrBound, old.name, name)
	}
	return nil
}

// openAndInstall opens a backend and makes it r's. The turn is held.
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
			r.home.Log.Later(slog.LevelWarn, notice, "backend", backend.Redact(rawURL))
		}
	}
	return nil
}

// openAgain is the retry for a request, unless there has been another one, or Close, since.
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
		r.home.Log.Log(slog.LevelInfo, "opened", "the backend is open now", "backend", request.name)
	}
	return err
}

// BindBackend is Bind for a backend at hand, which r then owns: it is closed by Close. If ctx ends while
// scrapes are in progress, nothing has happened. The error wraps ErrInvalid if b is nil.
func (r *Registry) BindBackend(ctx context.Context, b Backend) error {
	if isNil(b) {
		return fmt.Errorf("%w: BindBackend: the backend is nil", ErrInvalid)
	}
	return r.bindMade(ctx, fmt.Sprintf("%T", b), func() (backend.Backend, error) { return b, nil })
}

// bindMade binds r to the backend that create returns, which is called when nothing else can go
// wrong.
func (r *Registry) bindMade(ctx context.Context, name string, create func() (backend.Backend, error)) error {
	r.bind.envDone.Store(true)
	if err := r.beginBind(ctx, name); err != nil {
		return err
	}
	defer r.endTurn()
	requestBefore, selfBefore := r.bind.requested.Load(), r.self.Load()
	r.bind.requested.Store(&bindRequest{name: name})
	r.startSelf()
	if err := r.install(ctx, create); err != nil { // what was asked for before is tried again
		r.bind.requested.Store(requestBefore)
		if selfBefore == nil {
			r.stopSelf()
		}
		return err
	}
	r.bind.reopen.Halt(ctx)
	return nil
}

// install makes what create returns the backend of r, when no scrape is in progress. The turn is held.
func (r *Registry) install(ctx context.Context, create func() (backend.Backend, error)) error {
	r.bind.inProgress.Store(true) // no more scrapes begin
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
	r.startSampling()
	return nil
}

// tryScrape begins a scrape unless a bind is in progress. scrapeMu.RUnlock ends it.
func (r *Registry) tryScrape() bool { return !r.bind.inProgress.Load() && r.scrapeMu.TryRLock() }

// takeTurn takes the turn, unless a bind or Close is in progress until ctx ends.
func (r *Registry) takeTurn(ctx context.Context) error {
	if err := retry.Lock(ctx, r.bind.turn.TryLock); err != nil {
		name := "a backend"
		if request := r.bind.requested.Load(); request != nil {
			name = request.name
		}
		return fmt.Errorf("a Bind to %s, or a Close of it, is in progress: %w", name, err)
	}
	return nil
}

// endTurn gives the turn back, and logs what had to wait for that: a logger may flush.
func (r *Registry) endTurn() {
	r.bind.turn.Unlock()
	r.home.Log.Release()
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
		err = errors.Join(missing, r.home.Postponed.Drain(ctx, flushWait), b.Flush(ctx))
		if r.home.Current() == b { // otherwise what was postponed may have moved elsewhere
			return err
		}
	}
}

// settled returns the backend that all series are in, but for those that are postponed, and what
// notThere says. It waits for a bind or Close in progress: meanwhile, series are still where they
// were, though r has the new backend already.
func (r *Registry) settled(ctx context.Context) (b *series.Binding, missing, err error) {
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	if err := r.takeTurn(ctx); err != nil {
		return nil, nil, err
	}
	defer r.endTurn()
	return r.home.Current(), r.notThere(), nil
}

// notThere is the error of a backend that was asked for and could not be opened yet, or that a
// Close has left without having saved all.
func (r *Registry) notThere() error {
	if !r.home.Current().Local {
		return nil
	}
	if request := r.bind.requested.Load(); request != nil {
		if err := request.err.Load(); err != nil {
			return fmt.Errorf("gotheus: not in %s: %w", request.name, *err)
		}
	}
	if err := r.bind.unsaved.Load(); err != nil {
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
		err = r.notThere()
		r.bind.requested.Store(nil)
		r.stopSelf()
		return err
	}
	r.bind.requested.Store(nil)
	r.sampleNow(ctx)
	r.sampler.Stop(context.Background())
	err = r.home.Postponed.Drain(ctx, flushWait)
	// What is still waiting for room is carried to the heap, too. There it waits no longer: were it forgotten, a series
	// that was deleted meanwhile would be taken for one that is tried again, when somebody who has kept it brings it back.
	r.home.MoveAll(series.LocalHeap())
	r.home.Postponed.Drain(context.WithoutCancel(ctx), flushWait)
	r.home.Postponed.Halt(context.Background())
	r.leader.Stop() // not before: it stands in the current backend only
	r.stopSelf()
	return errors.Join(err, b.Close(ctx))
}

// startEnv applies GOTHEUS_BACKEND a moment from now.
func (r *Registry) startEnv() {
	if r.bind.env {
		r.bind.envTimer.Do(func() { time.AfterFunc(envDelay, func() { r.applyEnv(context.Background()) }) })
	}
}

// applyEnv applies GOTHEUS_BACKEND unless that was done or an explicit Bind came first. If somebody
// is at it, it waits for the end. Errors are logged and tried again by bindURL.
func (r *Registry) applyEnv(ctx context.Context) {
	if !r.bind.env || r.bind.envDone.Load() {
		return
	}
	rawURL := os.Getenv(EnvBackend)
	if rawURL == "" {
		r.bind.envDone.Store(true)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	r.bindURL(ctx, rawURL, true)
}
