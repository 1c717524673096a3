// Package syncer turns a [store.Store], which keeps opaque records, into a [backend.Backend] that any
// number of processes on any number of hosts share.
//
// Instruments update words in the memory of their process. A goroutine publishes these words from time
// to time, as absolute values: to publish them again does no harm. A page is the sum of what all
// instances have published. An instance is one process's life; when it ends, what it has counted is folded
// into the base, which belongs to nobody. All of that is exact whatever fails in between, because every
// change of the store has conditions:
//
//   - Each instance has a head with a number that grows by every change, and its next change applies only
//     if the head is the one it knows. A change whose outcome is unknown is looked up, not repeated.
//   - To fold an instance removes its head and puts its words into the base, in one step. An instance
//     that was thought dead and goes on finds that its head is gone and what of it was folded; it takes
//     that from its words and goes on as a new instance.
//   - A store that has lost data, or has gone back to an older state, is found out by its heads.
//     Everybody then publishes all it has again, and what survivors have last read of the dead is
//     restored. Until that is done, there are no pages.
//
// Liveness is judged by what the observer sees within a time of its own clock. Clocks of different hosts are
// never compared.
package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/store"
)

// options are store.Options, and what only tests say.
type options struct {
	store.Options
	manual bool             // tests make every step
	now    func() time.Time // nil: time.Now
}

// Syncer implements backend.Backend on a Store.
type Syncer struct {
	store store.Store
	opt   options
	now   func() time.Time
	piece int // about how much one commit puts; less in tests
	index *index.Index
	shard shard

	op   chan struct{}   // held by whoever talks to the store
	open context.Context // until Close
	stop context.CancelFunc
	gone context.Context // until Close has done what it can
	end  context.CancelFunc
	wg   sync.WaitGroup
	call struct {
		sync.Mutex
		next *call // has not begun
	}
	lastLog   *atomic.Int64
	up        atomic.Bool // the last contact with the store was one
	tickets   atomic.Uint64
	clock     atomic.Pointer[func() time.Time] // of windows; nil: nobody has said
	published atomic.Uint64                    // commits of own words
	stored    atomic.Pointer[map[uint32]chunk] // own words as the store has them

	mu        sync.Mutex // guards what follows
	closed    bool
	known     map[*backend.Family]*family
	schemas   map[string]*family
	declared  []declaration
	rivals    map[string][]*family // families by name
	ordered   map[string]bool      // of these, that Walk has in their order
	lastOrder uint64
	dir       directory
	fresh     []*row            // that are perhaps not in the directory
	sorted    int               // how many of them are in the order in which they will be there
	deletes   map[*row]uint64   // that others are yet to hear of: the life that begins, 0: the next one
	chunks    map[uint32][]*row // own series, by chunk, in ascending order
	stamping  []*row            // own series whose Sets are ordered among those of others
	numbers   map[int]*backend.Instance
	strange   error     // what another process has put into the directory, and no page may show; to be logged
	complete  time.Time // everything that was counted before is published
	mine      *ownIndex // nil: nobody has asked for it
	mineOrder uint64

	remote // guarded by op
}

// call is a Sync that several callers wait for.
type call struct {
	done chan struct{}
	err  error
}

// New returns a Backend on a store, which it owns and closes. It does not wait for the store: while
// that cannot be reached, counting goes on. The error is that of store.Config.Check; the store is
// the caller's then.
func New(st store.Store, o *store.Options) (*Syncer, error) {
	opt, err := check([]store.Store{st}, o)
	if err != nil {
		return nil, err
	}
	return newAlone(st, options{Options: opt}), nil
}

// check returns the options for stores, unless it finds that they make no sense.
func check(stores []store.Store, o *store.Options) (store.Options, error) {
	c := &store.Config{Shards: stores}
	if o != nil {
		c.Options = *o
	}
	return c.Options, c.Check()
}

func newAlone(st store.Store, o options) *Syncer {
	return newSyncer(st, o, new(index.Index), shard{of: 1, agreed: make(chan struct{}), once: new(sync.Once)}, new(atomic.Int64))
}

func newSyncer(st store.Store, o options, x *index.Index, place shard, lastLog *atomic.Int64) *Syncer {
	s := &Syncer{
		store:   st,
		opt:     o,
		piece:   pieceSize,
		index:   x,
		shard:   place,
		lastLog: lastLog,
		op:      make(chan struct{}, 1),
		known:   make(map[*backend.Family]*family),
		schemas: make(map[string]*family),
		deletes: make(map[*row]uint64),
		chunks:  make(map[uint32][]*row),
		numbers: make(map[int]*backend.Instance),
		rivals:  make(map[string][]*family),
		ordered: make(map[string]bool),
	}
	setDefault(&s.opt.Interval, store.DefaultInterval)
	setDefault(&s.opt.Alive, store.DefaultAlive)
	setDefault(&s.opt.Timeout, store.DefaultTimeout)
	if s.now = s.opt.now; s.now == nil {
		s.now = time.Now
	}
	s.complete = s.now()
	s.remote.init(s.complete)
	s.open, s.stop = context.WithCancel(context.Background())
	s.gone, s.end = context.WithCancel(context.Background())
	if !s.opt.manual {
		s.wg.Add(1)
		go s.run(s.open)
	}
	return s
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// run is the background: it publishes and looks after the dead.
func (s *Syncer) run(ctx context.Context) {
	defer s.wg.Done()
	if s.shard.at > 0 {
		select {
		case <-ctx.Done():
			return
		case <-s.shard.agreed:
		}
	}
	wait := s.opt.Interval
	var maintained time.Time
	for {
		// With some jitter, so that processes that were started together do not publish together.
		timer := time.NewTimer(wait*7/8 + rand.N(wait/4+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		err := s.exclusive(ctx, func(ctx context.Context) error {
			err := s.publish(ctx)
			if err == nil && s.now().Sub(maintained) >= s.opt.Alive/4 {
				maintained = s.now()
				err = s.maintain(ctx)
			}
			return err
		})
		s.logStrange()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			wait = s.opt.Interval
		default:
			s.log("nothing can be published; counting goes on", err)
			wait = min(2*wait, max(s.opt.Interval, min(5*time.Second, s.opt.Alive/4)))
		}
	}
}

// exclusive runs f while nobody else talks to the store, and no longer than the timeout.
func (s *Syncer) exclusive(ctx context.Context, f func(context.Context) error) error {
	select {
	case s.op <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.op }()
	if s.left {
		return backend.ErrClosed
	}
	if s.shard.at > 0 && !s.shard.hasAgreed() {
		return errFirst
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	err := f(ctx)
	chunks := s.self.chunks // is replaced and never changed
	s.stored.Store(&chunks)
	s.up.Store(err == nil)
	return err
}

// log logs a line, or returns false if there was one less than a minute ago.
func (s *Syncer) log(what string, err error) bool {
	now := time.Now().UnixNano()
	if last := s.lastLog.Load(); last != 0 && now-last < int64(time.Minute) || !s.lastLog.CompareAndSwap(last, now) {
		return false
	}
	l := s.opt.Logger
	if l == nil {
		l = slog.Default()
	}
	l.Warn("gotheus: "+what, "error", err)
	return true
}

// logStrange logs what was found in the directory. No lock is held: a logger may count its lines.
func (s *Syncer) logStrange() {
	s.mu.Lock()
	err := s.strange
	s.mu.Unlock()
	if err == nil || !s.log("what another process has put into the store was left out of pages", err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.strange == err {
		s.strange = nil
	}
}

// Declare implements backend.Backend. Others hear of the family at the next publication.
func (s *Syncer) Declare(f *backend.Family) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return backend.ErrClosed
	}
	s.family(f)
	return nil
}

const lineWords = 8 // words in a cache line: series that are updated side by side must not share one

// Cells implements backend.Backend. It never waits for the store.
func (s *Syncer) Cells(f *backend.Family, labels string) (backend.Words, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, backend.ErrClosed
	}
	r := s.family(f).row(labels)
	if r.own == nil {
		n := f.Words()
		r.own = &own{words: make(backend.Words, n, (n+lineWords-1)/lineWords*lineWords)}
		if r.fam.shared {
			r.own.gauge = new(sharedGauge)
		}
		if r.fam.shared || r.fam.latest() {
			s.stamping = append(s.stamping, r)
		}
		s.addMine(r)
		if r.id == noID {
			s.fresh = append(s.fresh, r)
		} else {
			s.listOwn(r)
		}
	}
	if f.Sealed(r.own.words) && !r.fam.exemplars {
		r.own.reset(r.fam)
	}
	f.Unseal(r.own.words)
	return r.own.words, nil
}

// reset forgets what belongs to a life that has ended. The value is sealed.
func (o *own) reset(f *family) {
	switch {
	case o.gauge != nil:
		o.words[backend.GaugeFlags].Store(0)
		*o.gauge = sharedGauge{}
	case f.parts:
		f.def.Forget(o.words)
		o.ticket, o.stamp = 0, 0
	case f.exemplars: // are never sealed
		for i := range o.words {
			o.words[i].Store(0)
		}
	}
}

// end seals the words of a life that has ended.
func (o *own) end(f *family) (counted bool) {
	counted = f.def.Seal(o.words)
	o.reset(f)
	return counted
}

// Delete implements backend.Backend. In this process the series are gone at once, in the others as soon as this
// one has published that. It never waits for the store.
func (s *Syncer) Delete(def *backend.Family, match func(labels string) bool) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, backend.ErrClosed
	}
	f := s.family(def)
	for labels, r := range f.rows {
		if !match(labels) {
			continue
		}
		counted := s.hide(r)
		if r.own != nil {
			counted = r.own.end(f) || counted
			r.own.deleting = true
		}
		if counted {
			n++
		}
		if r.id != noID || r.own != nil || counted {
			s.deletes[r] = 0
		}
	}
	return n, nil
}

// hide takes a series from the page until the next merge that finds it. It reports whether it was there. mu is held.
func (s *Syncer) hide(r *row) (counted bool) {
	if r.words != nil {
		counted = r.fam.def.Seal(r.words)
		for i := range r.words {
			if r.fam.exemplars {
				r.words[i].Store(0)
			}
		}
	}
	for number, sl := range r.slots {
		live := sl.owner.Load() == s.numbers[number].ID.Load() // and not what a dead instance has left
		counted = r.fam.def.Seal(sl.words) && live || counted
	}
	return counted
}

// Remote implements backend.Remote.
func (s *Syncer) Remote() {}

// SetClock implements backend.Clocked.
func (s *Syncer) SetClock(now func() time.Time) { s.clock.Store(&now) }

// Tickets implements backend.Backend. The order across processes is that of their publications.
func (s *Syncer) Tickets() *atomic.Uint64 { return &s.tickets }

// Sync implements backend.Backend: it publishes, and reads what the others have published after the call
// began. Calls that wait at the same time share one reading. Unless ServeStale is set, errors wrap
// backend.ErrStale.
func (s *Syncer) Sync(ctx context.Context) error {
	s.call.Lock()
	c := s.call.next
	if c == nil {
		s.mu.Lock()
		closed := s.closed
		if !closed {
			s.wg.Add(1)
		}
		s.mu.Unlock()
		if closed {
			s.call.Unlock()
			return backend.ErrClosed
		}
		c = &call{done: make(chan struct{})}
		s.call.next = c
		go s.runCall(c)
	}
	s.call.Unlock()
	var err error
	select {
	case <-c.done:
		err = c.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && !s.opt.ServeStale {
		err = fmt.Errorf("%w: %w", backend.ErrStale, err)
	}
	return err
}

func (s *Syncer) runCall(c *call) {
	defer s.wg.Done()
	defer close(c.done)
	begin := func() { // who comes from now on wants a later reading
		s.call.Lock()
		if s.call.next == c {
			s.call.next = nil
		}
		s.call.Unlock()
	}
	c.err = s.exclusive(s.open, func(ctx context.Context) error {
		begin()
		return s.refresh(ctx)
	})
	begin() // if the store was not asked at all
	s.logStrange()
}

// Walk implements backend.Backend: what was known at the last Sync.
func (s *Syncer) Walk() []backend.Group { return s.index.Walk() }

// Flush implements backend.Backend: it returns when the store has acknowledged everything that was counted
// before the call. It tries until ctx ends, but no longer than 10 s. After Close, or if Close ends first, the error wraps
// backend.ErrClosed.
func (s *Syncer) Flush(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.gone, cancel)() // or Close would wait for it
	err := s.persist(ctx, s.publish)
	if err != nil && s.gone.Err() != nil && !errors.Is(err, backend.ErrClosed) {
		err = fmt.Errorf("%w: %w", backend.ErrClosed, err)
	}
	return err
}

const persistTime = 10 * time.Second // programs close with contexts that never end

// persist tries f until it succeeds.
func (s *Syncer) persist(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, persistTime)
	defer cancel()
	var cause error
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := s.exclusive(ctx, f)
		if cause == nil || ctx.Err() == nil { // else it has but run out of time
			cause = err
		}
		if err == nil || errors.Is(err, backend.ErrClosed) || errors.Is(err, store.ErrShards) || errors.Is(err, errFirst) {
			return err
		}
		timer := time.NewTimer(wait + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("syncer: not all is in the store: %w", cause)
		case <-timer.C:
		}
	}
}

// Close implements backend.Backend: it publishes, leaves what was counted to the base, and ends the
// background. If the store cannot be reached until ctx ends, or for 10 s, what it has not acknowledged is
// lost, and the error says so.
func (s *Syncer) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.stop()
	err := s.persist(ctx, s.leave)
	s.end()
	s.op <- struct{}{}
	s.left = true
	<-s.op
	s.wg.Wait()
	return errors.Join(err, s.store.Close())
}

func hostname() string {
	host, _ := os.Hostname()
	return host[:min(len(host), 255)]
}
