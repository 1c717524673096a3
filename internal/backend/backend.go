// Package backend is the contract between instruments and the place where their values live.
//
// Every value is made of ordinary 8-byte words ([Words]) that instruments update with atomic
// operations. A [Backend] decides only where the words of a series are and what happens to them in
// the background; no update ever calls it. A family ([Family]) fixes how many words each of its
// series has and what they mean; a series is identified by its family and its label text
// ([Family.LabelText]), which is the same in every process.
//
// The package imports nothing of gotheus, so that a backend can be written outside of it.
package backend

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

var (
	// ErrClosed is returned by calls on a closed backend.
	ErrClosed = errors.New("backend: closed")
	// ErrFull says that there is no room for another family or series: the configured limit, the
	// disk or the memory is used up. The caller goes on in the heap and may ask again later.
	ErrFull = errors.New("backend: no room")
	// ErrLimit is wrapped beside ErrFull if it is the configured limit that was reached: to ask again
	// will hardly help.
	ErrLimit = errors.New("backend: limit reached")
	// ErrBusy says that something cannot be done at once because another process is at it. The caller
	// goes on in the heap and asks again later.
	ErrBusy = errors.New("backend: busy")
	// ErrStale is wrapped by the error of Sync when what Walk knows must not be shown as a page: it
	// is older than what another process may have shown.
	ErrStale = errors.New("backend: what is known is out of date")
)

// Words are the live words of one series. Their number and meaning are the family's, see [Family.Words].
type Words = []atomic.Uint64

// Series is one row of a [Group].
type Series struct {
	Labels string // label text, see Family.LabelText
	Words  Words  // live; only to be read atomically; nil if the family has Parts
}

// Instance is a process that uses a backend, for as long as it does.
type Instance struct {
	Number int           // small, and unique among live instances; negative: there is but this one, which needs no label
	ID     atomic.Uint64 // 0: it is dead, as far as the last Sync knows
}

// Part is what one instance has of a series.
type Part struct {
	Words    Words
	Instance *Instance
	Owner    *atomic.Uint64 // ID of the instance that the words belong to; nil: always Instance
}

// Live reports whether the part counts: its instance is alive, and it is not what a dead one left.
func (p *Part) Live() bool {
	id := p.Instance.ID.Load()
	return id != 0 && (p.Owner == nil || p.Owner.Load() == id)
}

// Parts is a growing list of parts.
type Parts struct{ list atomic.Pointer[[]Part] }

// Add adds a part. Calls must not be concurrent.
func (p *Parts) Add(part Part) {
	old := p.List()
	at, _ := slices.BinarySearchFunc(old, part.Instance.Number, func(p Part, n int) int { return p.Instance.Number - n })
	list := slices.Insert(slices.Clone(old), at, part)
	p.list.Store(&list)
}

// List returns all parts by number, also those of dead instances. It must not be changed.
func (p *Parts) List() []Part {
	if list := p.list.Load(); list != nil {
		return *list
	}
	return nil
}

// Group is a family with its series, as [Backend.Walk] saw them. Series are in ascending order of
// Labels. Neither the group nor its slices may be changed.
type Group struct {
	Family *Family
	Series []*Series
	Parts  []*Parts // of each of Series, if the family has them; otherwise nil
}

// Exists reports whether any word of the i-th series counts.
func (g *Group) Exists(i int) bool {
	if g.Parts == nil {
		return !g.Family.Sealed(g.Series[i].Words)
	}
	for _, p := range g.Parts[i].List() {
		if p.Live() && !g.Family.Sealed(p.Words) {
			return true
		}
	}
	return false
}

// Backend places words. All methods may be called concurrently. None of them is called by an
// update of a metric, so all of them may lock; only Sync, Flush and Close may take long, and must
// then heed their context.
type Backend interface {
	// Declare makes a family known, so that every process shows its help and type even while it
	// has no series. Declaring an equal family again is free. f must be valid and must not be
	// changed later. The error may wrap ErrFull, ErrBusy or ErrClosed.
	Declare(f *Family) error

	// Cells returns the words of a series, which it creates at zero if no process has done so yet.
	// It declares the family. Two calls for equal families with the same labels return the same
	// words in one process, and in others words of the same series: the backend may let processes share
	// them, or add up those of each. If the family has Parts, each instance has its own. A series
	// that was deleted comes back at zero: no word that is returned is sealed, unless the series is
	// deleted again. Words stay valid as long as they are reachable, also after
	// Close. labels is kept by the backend, the caller must not pass a string that may change.
	// The error may wrap ErrFull, ErrBusy or ErrClosed.
	Cells(f *Family, labels string) (Words, error)

	// Delete deletes the series of f whose label texts match, for all processes, by sealing their words,
	// and returns how many there were. Those that are not in Walk need not be found.
	Delete(f *Family, match func(labels string) bool) (int, error)

	// Tickets returns a counter that all processes share, for the order of what they set.
	Tickets() *atomic.Uint64

	// Sync brings Walk up to date with what other processes did. On error Walk has the last known
	// state.
	Sync(ctx context.Context) error

	// Walk returns all groups by ascending name: also families and series that this process never
	// asked for. Those of one name are in the order in which they were declared last, the latest
	// one first; but what live processes have declared comes before what only dead ones have. The
	// result is a snapshot of what exists; the words in it are live. It may hold series whose words
	// are all sealed, which do not exist. Label texts that others may have written have passed
	// Family.LabelValues: pages show them as they are.
	Walk() []Group

	// Flush returns when everything counted before the call is durable by the backend's own
	// definition.
	Flush(ctx context.Context) error

	// Close flushes and leaves. Words remain usable; updates made to them after Close may be seen
	// by nobody.
	Close(ctx context.Context) error
}

// OverflowValue is the value of all labels of the series that counts for those there is no room for. Backends
// keep some room for it.
const OverflowValue = "gotheus_overflow"

// Remote is implemented by backends whose Sync waits for another machine. It is called for pages,
// and in the background, only.
type Remote interface{ Remote() }

// Numbered is implemented by backends that tell instances apart by small numbers.
type Numbered interface {
	// Number returns a number that no other live instance has; the least that was free.
	Number() int
}

// Publisher is implemented by backends in which an update is seen by others only when it has been published.
type Publisher interface {
	// Unpublished returns how many words have changed since they were last published, as far as is known without
	// looking at all of them, and for how long at most.
	Unpublished() (words int, lag time.Duration)
}

// Clocked is implemented by backends that unite what instances have of a window, see Sketch.
type Clocked interface {
	// SetClock says what time it is for whoever uses the backend. It may be called by several
	// goroutines, and must not call the backend.
	SetClock(now func() time.Time)
}

// Owner is implemented by backends that know what this instance alone has counted.
type Owner interface {
	// WalkOwn is Walk for the families and series of this instance, with what it has counted since the backend was
	// opened. Where each instance has parts, there is but its own, with a negative number. It never waits.
	WalkOwn() []Group
}

// Noticer is implemented by backends that have something to say about how they were opened.
type Noticer interface {
	// Notices returns what an operator should know: sentences for a log.
	Notices() []string
}

// IsRemote reports whether Sync of b waits for another machine.
func IsRemote(b Backend) bool {
	_, ok := b.(Remote)
	return ok
}
