package backend

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrConflict is returned by Store.Commit when a condition does not hold: nothing was changed.
	ErrConflict = errors.New("backend: the store has changed meanwhile")
	// ErrStale is wrapped by the error of Sync when what Walk knows must not be shown as a page: it is
	// older than what another process may have shown.
	ErrStale = errors.New("backend: what is known is out of date")
)

// Store keeps records for package syncer, which makes a Backend of it. It knows nothing of metrics:
// sequence numbers, retry, back-off, healing and merging are the syncer's. A Store has two kinds of
// records, all of them opaque and most of them below 10 KB:
//
//   - heads, of which there are few, some for each live process, and which are read all at once;
//   - parts, which hold the bulk, are read by name, and of which there is one for every 256 series and
//     process. Parts belong to groups, so that those of a process can be removed in one go.
//
// All methods may be called concurrently, by this and by other processes. They must heed ctx. Commits of
// all processes must take effect one after the other, and a Heads or Get that begins after a Commit has
// returned must see what it did. A store that loses data, goes back to an older state, or answers an
// error although it has done what it was asked, does no harm: the syncer finds out and restores what is
// missing. Arguments and what they refer to are the caller's: they must not be changed, nor kept after
// the return. Results become the caller's.
type Store interface {
	// Heads returns all heads, as they were at one moment.
	Heads(ctx context.Context) (map[string]Head, error)

	// Get returns the parts with these keys, in their order; nil for those that do not exist. They need
	// not be from one moment.
	Get(ctx context.Context, keys []Key) ([][]byte, error)

	// Commit does all that c says if all its conditions hold, and nothing at all, not even for an
	// instant, otherwise: then it returns an error that wraps ErrConflict. Any other error leaves open
	// whether it was done.
	Commit(ctx context.Context, c *Commit) error

	// Close releases what the Store holds. It is called once, last.
	Close() error
}

// Head is a head as Heads returns it.
type Head struct {
	Value []byte
	// Age is the time since the head was last put, be it with the same value, by the store's own clock:
	// the clocks of the processes do not matter. A resolution of 10 ms is enough.
	Age time.Duration
}

// Key names a part.
type Key struct {
	Group string // a lower-case letter and at most 16 hexadecimal digits
	Part  uint32
}

// Commit is a change of a store, see Store.Commit. It is at most some 100 KB large, but for what
// is restored after the store has lost it: all that a process had.
type Commit struct {
	If    map[string][]byte // values that heads must have; nil: there must be none
	Heads map[string][]byte // heads to put; nil: to remove, if there is one
	Parts map[Key][]byte    // parts to put
	Drop  []string          // groups whose parts are removed, all of them
}

// Remote is implemented by backends whose Sync waits for another machine. It is called for pages, and in the
// background, only.
type Remote interface{ Remote() }
