// Package store is for those who keep metrics in a place of their own: a database, a key-value
// store, anything that can change several records in one step if others are as expected.
//
// Implement the four methods of [Store], which knows nothing of metrics: it keeps bytes. The
// library does the rest on top of it: numbering changes, retrying, finding out what became of a
// request whose answer was lost, merging what many processes have counted, taking over from the
// dead, and healing a store that has lost data. Test the store with package storetest, which also
// plays many processes on it.
//
// A [Config] says which stores to use and how. Programs bind one with gotheus.BindStore:
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
	"time"
)

// ErrConflict is wrapped by the errors of Store.Commit that say that a condition does not hold, and
// that nothing was changed.
var ErrConflict = errors.New("store: a condition of the commit does not hold")

// ErrShards is wrapped by errors of Flush, Close and of pages that say that a store was made for
// another number of shards than Config.Shards has. Nothing is read from it or written to it.
var ErrShards = errors.New("store: another number of shards")

// Store keeps two kinds of records. All of them are opaque, and most are smaller than 10 KB:
//
//   - Heads have a name. There are few, some for each live process, and they are read all at once.
//   - Parts hold the bulk and are read by key. There is one for every 256 series and process. Parts
//     belong to groups, so that all parts of a process can be removed in one go.
//
// Methods are called concurrently, by this process and by others, and must return when their
// context ends. Commits of all processes must take effect one after the other, and a Heads or Get
// that begins after a Commit has returned must see what it did: no replicas, no caches.
//
// A store that loses data, goes back to an older state, or answers with an error although it has
// done what it was asked for does no harm: this is found out, and what is missing is restored. So
// there is no need to retry within a method, nor to wait for a disk.
//
// Arguments, and what they refer to, are the caller's: they must not be changed, nor kept after the
// return. Results become the caller's.
type Store interface {
	// Heads returns all heads as they were at one moment.
	Heads(ctx context.Context) (map[string]Head, error)

	// Get returns the parts with these keys, in the order of the keys. Those that do not exist
	// are nil; those that are empty are not. The parts need not be from one moment.
	Get(ctx context.Context, keys []Key) ([][]byte, error)

	// Commit does all that c says if all its conditions hold. Otherwise it does nothing at all,
	// not even for an instant, and returns an error that wraps ErrConflict. Any other error
	// leaves open whether it was done.
	Commit(ctx context.Context, c *Commit) error

	// Close releases what the Store holds. It is called once, after all other methods have
	// returned.
	Close() error
}

// Head is a head as Store.Heads returns it.
type Head struct {
	Value []byte
	// Age is the time since the head was last put, be it with the same value. It must be
	// measured by the store's own clock, since clocks of processes are never compared. A
	// resolution of 10 ms is enough.
	Age time.Duration
}

// Key names a part.
type Key struct {
	Group string // a lower-case letter and at most 16 hexadecimal digits
	Part  uint32
}

// Commit is a change of a store, see Store.Commit. It is at most some 100 KB large, except when it
// restores what the store has lost: then it may be all that one process had.
//
// A group that is in Drop is in no key of Parts of the same Commit.
type Commit struct {
	If    map[string][]byte // values that heads must have; nil: there must be no such head
	Heads map[string][]byte // heads to put; nil: to remove if there is one
	Parts map[Key][]byte    // parts to put
	Drop  []string          // groups of which all parts are removed
}
