// Package syncer turns a [store.Store], which keeps opaque records, into a [backend.Backend] that
// any number of processes on any number of hosts share.
//
// Instruments update words in their process's memory. A goroutine publishes these words from time
// to time, as absolute values, so publishing twice does no harm. A page is the sum of what all
// instances have published. An instance is one process from binding to exit; after that, its counts
// are folded into the base, which belongs to no instance. All of this stays exact whatever fails,
// because every change to the store is conditional:
//
//   - Each instance has a head with a sequence number that grows with every change. A change
//     applies only if the stored head is the one the instance knows. If the outcome of a commit is
//     unknown, the instance reads the head to find out; it does not repeat the commit blindly.
//   - Folding an instance removes its head and adds its words to the base in one commit. An
//     instance that was wrongly taken for dead finds its head gone and learns what was folded; it
//     subtracts that from its words and continues as a new instance.
//   - The heads reveal that a store has lost data or has gone back to an older state. Every process
//     then publishes everything again, and survivors restore what they last read of the dead. Until
//     that is done, there are no pages.
//
// Each process judges liveness by the ages of heads and by its own clock. Clocks of different hosts
// are never compared.
package syncer

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/courtesy"
	"github.com/gotheus/gotheus/internal/index"
	"github.com/gotheus/gotheus/store"
)

// options are store.Options and what only tests set.
type options struct {
	store.Options
	manual bool             // no background goroutine: the test makes every step
	now    func() time.Time // nil: time.Now
	random func() uint64    // nil: rand.Uint64
	piece  int              // see Syncer.piece; 0: pieceSize
}

// Syncer implements backend.Backend on a Store.
type Syncer struct {
	store  store.Store
	opt    options
	now    func() time.Time
	random func() uint64
	piece  int // approximate bytes per commit; less in tests
	index  *index.Index
	shard  shard

	op   chan struct{}   // a lock: held while talking to the store
	open context.Context // until Close
	stop context.CancelFunc
	gone context.Context // until Close has finished or given up
	end  context.CancelFunc
	wg   sync.WaitGroup
	call struct {
		sync.Mutex
		next *call // has not started reading yet
	}
	contact    contact
	lastLog    *atomic.Int64
	failing    atomic.Bool  // the last contact with the store failed
	answered   atomic.Int64 // when one last succeeded, in nanoseconds since 1970; 0: never
	tickets    atomic.Uint64
	clock      atomic.Pointer[func() time.Time] // of quantile windows; nil: not set
	published  atomic.Uint64                    // commits of own words
	changes    atomic.Uint64                    // see Changes
	damagedNow atomic.Int64                     // see Damaged
	stored     atomic.Pointer[published]        // own words as the store has them

	listing sync.Mutex // held while the list of own words is started; taken before mu

	mu        courtesy.Mutex // guards what follows; the program's calls go first
	closed    bool
	known     map[*backend.Family]*family
	schemas   map[string]*family
	declared  []declaration
	variants  map[string][]*family // families by name
	ordered   map[string]bool      // names whose variants Walk returns in order
	lastOrder uint64
	dir       directory
	waiting   waiting
	endings   endings
	awaiting  bool // some of these wait, see awaitHolders
	removed   removals
	chunks    map[uint32][]*row // own series, by chunk, in ascending order
	// Version of the directory that assigned the last number of them.
	newestOwn    uint64
	stamping     []*row // own series whose Sets need stamps
	looseChanged bool   // series without numbers, or which have none, have changed
	numbers      map[int]*backend.Instance
	invalid      error     // invalid data from another process, still to be logged
	complete     time.Time // everything counted before this time is published
	owned        *ownIndex // nil: not requested yet
	ownOrder     uint64
	alone        backend.Instance // this one, as long as it has no number

	remote // guarded by op
}

// New returns a Backend on a store, which it owns and closes. It does not wait for the store:
// counting works while the store is unreachable. The store must not panic. The error is that of
// store.Config.Check; in that case the caller still owns the store.
func New(st store.Store, o *store.Options) (*Syncer, error) {
	opt, err := check([]store.Store{st}, o)
	if err != nil {
		return nil, err
	}
	return newSingle(st, options{Options: opt}), nil
}

// check returns the options for these stores, or the error of store.Config.Check.
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
		piece:    cmp.Or(o.piece, pieceSize),
		index:    x,
		shard:    place,
		lastLog:  lastLog,
		op:       make(chan struct{}, 1),
		contact:  contact{done: make(chan struct{})},
		known:    make(map[*backend.Family]*family),
		schemas:  make(map[string]*family),
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
	if s.random = s.opt.random; s.random == nil {
		s.random = rand.Uint64
	}
	s.complete = s.now()
	s.alone.Number = -1
	s.alone.ID.Store(1)
	s.initRemote()
	s.open, s.stop = context.WithCancel(context.Background())
	s.gone, s.end = context.WithCancel(context.Background())
	s.contact.names = append(slices.Clone(commonHeads), livePfx+instanceName(s.self.id))
	if !s.opt.manual {
		s.wg.Add(2)
		go s.makeContact(s.open)
		go s.run(s.open)
	}
	return s
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// run is the background goroutine: it publishes, and folds and restores.
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
		// Jitter keeps processes that started together from publishing together.
		timer := time.NewTimer(wait*7/8 + s.jitter(wait/4+1))
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
			s.log("cannot publish to the store; counting continues", err)
			wait = min(2*wait, max(s.opt.Interval, min(5*time.Second, s.opt.Alive/4)))
		}
	}
}

// exclusive runs f while no other goroutine talks to the store, with Options.Timeout.
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
	s.lost = lostPart{}
	limited, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	if s.metaRaw == nil && !s.opt.manual {
		select {
		case <-s.contact.done: // it asks what f is about to ask
		case <-limited.Done():
			s.failing.Store(ctx.Err() == nil)
			return limited.Err()
		}
	}
	err := f(limited)
	s.stored.Store(&published{s.self.chunks, s.self.inline}) // never modified, only replaced
	switch {
	case err == nil:
		s.answered.Store(s.now().UnixNano())
		s.failing.Store(false)
	case ctx.Err() == nil: // otherwise the caller has given up
		s.failing.Store(true)
	}
	return err
}

// Answered implements backend.Answerer.
func (s *Syncer) Answered() (ok bool, last time.Time) {
	if n := s.answered.Load(); n != 0 {
		last = time.Unix(0, n)
	}
	return !s.failing.Load(), last
}

// log logs a line. It returns false without logging if there was one less than a minute ago.
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

// logInvalid logs the invalid data found in the store. The caller holds no lock, since a logger may
// itself count lines in this backend.
func (s *Syncer) logInvalid() {
	s.mu.LockLast()
	err := s.invalid
	s.mu.Unlock()
	if err == nil || !s.log("invalid data from another process in the store was left out of pages", err) {
		return
	}
	s.mu.LockLast()
	defer s.mu.Unlock()
	if s.invalid == err {
		s.invalid = nil
	}
}

func hostname() string {
	host, _ := os.Hostname()
	return host[:min(len(host), 255)]
}
