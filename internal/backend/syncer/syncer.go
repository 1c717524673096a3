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
	variants  map[string][]*family // families by name
	ordered   map[string]bool      // of these, that Walk has in their order
	lastOrder uint64
	dir       directory
	fresh     []*row            // that are perhaps not in the directory
	sorted    int               // how many of them are in the order in which they will be there
	deletes   map[*row]uint64   // that others are yet to hear of: the life that begins, 0: the next one
	chunks    map[uint32][]*row // own series, by chunk, in ascending order
	stamping  []*row            // own series whose Sets are ordered among those of others
	numbers   map[int]*backend.Instance
	invalid   error     // what another process has put into the directory, and no page may show; to be logged
	complete  time.Time // everything that was counted before is published
	owned     *ownIndex // nil: nobody has asked for it
	ownOrder  uint64

	remote // guarded by op
}

// New returns a Backend on a store, which it owns and closes. It does not wait for the store: while
// that cannot be reached, counting goes on. The error is that of store.Config.Check; the store is
// the caller's then.
func New(st store.Store, o *store.Options) (*Syncer, error) {
	opt, err := check([]store.Store{st}, o)
	if err != nil {
		return nil, err
	}
	return newSingle(st, options{Options: opt}), nil
}

// check returns the options for stores, unless it finds that they make no sense.
func check(stores []store.Store, o *store.Options) (store.Options, error) {
	c := &store.Config{Shards: stores}
	if o != nil {
		c.Options = *o
	}
	return c.Options, c.Check()
}

func newSingle(st store.Store, o options) *Syncer {
	return newSyncer(st, o, new(index.Index), shard{of: 1, agreed: make(chan struct{}), once: new(sync.Once)}, new(atomic.Int64))
}

func newSyncer(st store.Store, o options, x *index.Index, place shard, lastLog *atomic.Int64) *Syncer {
	s := &Syncer{
		store:    st,
		opt:      o,
		piece:    pieceSize,
		index:    x,
		shard:    place,
		lastLog:  lastLog,
		op:       make(chan struct{}, 1),
		known:    make(map[*backend.Family]*family),
		schemas:  make(map[string]*family),
		deletes:  make(map[*row]uint64),
		chunks:   make(map[uint32][]*row),
		numbers:  make(map[int]*backend.Instance),
		variants: make(map[string][]*family),
		ordered:  make(map[string]bool),
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
		s.logInvalid()
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
	if s.departed {
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

// logInvalid logs what was found in the directory. No lock is held: a logger may count its lines.
func (s *Syncer) logInvalid() {
	s.mu.Lock()
	err := s.invalid
	s.mu.Unlock()
	if err == nil || !s.log("what another process has put into the store was left out of pages", err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.invalid == err {
		s.invalid = nil
	}
}

func hostname() string {
	host, _ := os.Hostname()
	return host[:min(len(host), 255)]
}
