// Package store defines the interface for keeping metrics in a database, a key-value store, or
// anything else that can change several records atomically under conditions.
//
// Implement the four methods of [Store], which stores bytes and knows nothing of metrics. The
// library does the rest: it numbers changes, retries, finds out whether a request took effect when
// its answer is lost, merges the counts of many processes, takes over those of dead processes, and
// repairs a store that has lost data. Test the store with package storetest, which also runs many
// processes on it.
//
// A [Config] selects the stores and options. Programs bind one with gotheus.BindStore:
//
//	err := gotheus.BindStore(ctx, &store.Config{Shards: []store.Store{mine}})
//
// or by a URL, if a [Driver] is registered for its scheme.
//
// docs/store.md in the repository builds a store on SQLite step by step.
package store

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// ErrInvalid is wrapped by errors about arguments that can never work: a Config or Options with an
// invalid value, a URL with wrong parameters, a driver that cannot be registered. Drivers should
// wrap it, too, in their errors about a URL.
var ErrInvalid = errors.New("invalid argument")

// ErrConflict is wrapped by errors of Store.Commit if a condition does not hold and nothing was
// changed.
var ErrConflict = errors.New("store: a condition of the commit does not hold")

// ErrShards is wrapped by errors of Flush, Close and pages if a store was created for a different
// number of shards than Config.Shards has. Such a store is neither read nor written.
var ErrShards = errors.New("store: different number of shards")

// ErrRefused is wrapped by errors of a store's methods if the store answers and refuses, so that
// retrying alone cannot help: a password is wrong, a right is missing, a database does not exist,
// or the server is something else. gotheus.Bind and BindStore return the error if the first contact
// ends with it. The library retries all the same, in case somebody mends the cause. A server that
// is away, starting or full has not refused.
var ErrRefused = errors.New("store: the server refuses")

// Store keeps two kinds of records. All of them are opaque, and most are smaller than 10 KB:
//
//   - Heads are identified by name. There are a few for each process, and a few for all of them. A
//     page needs all heads; in between, each process reads the few common ones.
//   - Parts hold most of the data and are read by key. There is one per process for every 256
//     series. Parts belong to groups, so that all parts of a process can be removed at once.
//
// Methods are called concurrently, by this process and by others, and must return when their
// context ends. Commits of all processes must take effect one after another, and a Heads or Get
// that begins after a Commit has returned must see its changes: no replicas, no caches.
//
// The library tolerates a store that loses data, goes back to an older state, or returns an error
// for a commit that was applied: it notices and restores what is missing. So a method need not
// retry, nor wait for a disk. A method that panics has returned an error.
//
// Arguments, and what they refer to, belong to the caller: a method must not modify them, or keep
// them after it returns. Results belong to the caller, too.
type Store interface {
	// Heads returns the heads that exist of those with these names, as of one moment; with nil,
	// it returns all heads.
	Heads(ctx context.Context, names []string) (map[string]Head, error)

	// Get returns the parts with these keys, in the order of the keys. Missing parts are nil,
	// empty ones are not. The parts need not be from the same moment.
	Get(ctx context.Context, keys []Key) ([][]byte, error)

	// Commit applies all of c atomically if all its conditions hold. Otherwise it changes
	// nothing and returns an error that wraps ErrConflict. After any other error, the commit
	// may or may not have been applied.
	Commit(ctx context.Context, c *Commit) error

	// Close releases the store's resources. It is called once, after all other methods have
	// returned.
	Close() error
}

// LoggerSetter is implemented by stores that log. SetLogger is called before all other methods when
// the store is bound, with the logger of Options, or the registry's if that is nil. l is never nil.
type LoggerSetter interface {
	SetLogger(l *slog.Logger)
}

// Head is a head as returned by Store.Heads.
type Head struct {
	Value []byte
	// Age is the time since the head was last put, even if the value was the same. It must be
	// measured by the store's own clock, since clocks of processes are never compared. A
	// resolution of 10 ms is enough. It is 0 if it is not known: the head was put by another
	// server, whose clock may differ.
	Age time.Duration
}

// HeadServer is the name of a head that a store may add to each result of Heads, whichever names
// were asked for. Its value says who answers, and for how long already: it changes whenever the
// data may have gone back to an older state, because the server has started again or because a
// replica has taken over. There are then no pages until each live process has had the time to
// restore what the store may have lost. Without this head, a page can lack what another process'
// page has shown, until the process that knows more contacts the store. No commit mentions it.
const HeadServer = "server"

// Key identifies a part.
type Key struct {
	Group string // a lower-case letter and at most 16 hexadecimal digits
	Part  uint32
}

// Commit is a change to a store, see Store.Commit. It has at most some 100 KB, except when it
// restores data that the store has lost: then it may contain everything that one process had.
//
// If a group is in Drop, no key in Parts has it.
type Commit struct {
	If    map[string][]byte // values that heads must have; nil: the head must not exist
	Heads map[string][]byte // heads to put; nil: remove the head if it exists
	Parts map[Key][]byte    // parts to put
	Drop  []string          // groups whose parts are all removed
}
