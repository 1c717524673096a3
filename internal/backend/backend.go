// Package backend defines the contract between instruments and the storage of their values. Every
// value consists of ordinary 8-byte words ([Words]) that instruments update with atomic operations.
// A [Backend] only decides where the words of a series are and what happens to them in the
// background; updates never call it. A [Family] defines the number and the meaning of its series'
// words. A series is identified by its family and its label text ([Family.LabelText]), which is the
// same in every process.
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
	// ErrFull means that there is no room for another family or series: the configured limit,
	// the disk or the memory is exhausted. The caller counts in the heap and may try again
	// later.
	ErrFull = errors.New("backend: no room")
	// ErrLimit is wrapped in addition to ErrFull if the configured limit was reached, so that
	// trying again will hardly help.
	ErrLimit = errors.New("backend: limit reached")
	// ErrBusy means that another process prevents the operation at the moment. The caller
	// counts in the heap and tries again later.
	ErrBusy = errors.New("backend: busy")
	// ErrStale is wrapped by the error of Sync when what Walk knows must not be shown as a
	// page: it is older than what another process may have shown.
	ErrStale = errors.New("backend: what is known is out of date")
)

// Words are the live words of a series. The family defines their number and meaning, see
// [Family.Words].
type Words = []atomic.Uint64

// Series is one row of a [Group].
type Series struct {
	Labels string // label text, see Family.LabelText
	Words  Words  // live, must be read atomically; nil if the family has Parts
}

// Instance is one use of a backend by a process, from opening it to closing it or dying.
type Instance struct {
	// small, and unique among live instances; negative if it is the only one and needs no label
	Number int
	ID     atomic.Uint64 // 0 if it was dead at the last Sync
}

// Part is the share that one instance has in a series.
type Part struct {
	Words    Words
	Instance *Instance
	// ID of the instance that owns the words; nil if that is always Instance
	Owner *atomic.Uint64
}

// Live reports whether the part counts: its instance is alive and owns the words.
func (p *Part) Live() bool {
	id := p.Instance.ID.Load()
	return id != 0 && (p.Owner == nil || p.Owner.Load() == id)
}

// Parts is a growing list of parts. It is safe for one writer and concurrent readers.
type Parts struct{ list atomic.Pointer[[]Part] }

// Add adds parts, each in front of those that have the same number. Calls must not be concurrent.
// The list is copied once for all of them.
func (p *Parts) Add(parts ...Part) {
	old := p.List()
	list := make([]Part, 0, len(old)+len(parts))
	for _, part := range slices.Backward(parts) {
		list = append(list, part)
	}
	list = append(list, old...)
	slices.SortStableFunc(list, func(a, b Part) int { return a.Instance.Number - b.Instance.Number })
	p.list.Store(&list)
}

// Remove removes parts, and returns how many are left. Calls must not be concurrent with those of
// Add.
func (p *Parts) Remove(drop func(Part) bool) (left int) {
	old := p.List()
	list := slices.DeleteFunc(slices.Clone(old), drop)
	if len(list) < len(old) {
		p.list.Store(&list)
	}
	return len(list)
}

// List returns all parts in the order of their instances' numbers, including those of dead
// instances. The caller must not change it.
func (p *Parts) List() []Part {
	if list := p.list.Load(); list != nil {
		return *list
	}
	return nil
}

// Group is a family with its series, as returned by [Backend.Walk]. Series are in ascending order
// of Labels. Neither the group nor its slices may be changed.
type Group struct {
	Family *Family
	Series []*Series
	Parts  []*Parts // parallel to Series if the family has parts; otherwise nil
}

// Exists reports whether the i-th series exists: whether any of its words is not sealed.
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

// Backend provides words. All methods are safe for concurrent use. Updates of metrics call none of
// them, so all may take locks. Only Sync, Flush and Close may take long, and must then respect
// their context.
type Backend interface {
	// Declare announces a family, so that every process shows its help and type even while it
	// has no series. Declaring an equal family again is free. f must be valid and must not be
	// changed later. The error may wrap ErrFull, ErrBusy or ErrClosed.
	Declare(f *Family) error

	// Cells returns the words of a series, and creates it at zero if no process has done so
	// yet. It declares the family. Calls for equal families with the same labels return the
	// same words within a process. In other processes they return words of the same series: the
	// backend may share them between processes, or add up those of each. If the family has
	// Parts, each instance has its own words. A deleted series comes back at zero: no word
	// returned is sealed, unless the series is deleted again. Words stay valid as long as they
	// are reachable, even after Close, except in a Reclaimer. The backend keeps labels, so it
	// must be a string that does not change. The error may wrap ErrFull, ErrBusy or ErrClosed.
	Cells(f *Family, labels string) (Words, error)

	// Delete deletes the series of f whose label texts match, for all processes, by sealing
	// their words, and returns their number. It need not find series that Walk does not return
	// yet. It looks at all series, but holds up other calls only for short moments. match may
	// be called more than once for a series and must not call the backend.
	Delete(f *Family, match func(labels string) bool) (int, error)

	// DeleteSeries is Delete for the series with one label text, and reports whether there was
	// one. The time that it takes does not depend on how many series there are. It does not
	// declare the family.
	DeleteSeries(f *Family, labels string) (bool, error)

	// Exists reports whether a series exists. It creates neither that nor the family, and does
	// not wait for another machine.
	Exists(f *Family, labels string) bool

	// Aids returns those auxiliary families of f that this backend knows, from this process
	// or from others.
	Aids(f *Family) []*Family

	// Tickets returns a counter shared by all processes, which orders what they set.
	Tickets() *atomic.Uint64

	// Sync updates Walk's result with the changes of other processes. On error, Walk returns
	// the last known state.
	Sync(ctx context.Context) error

	// Walk returns all groups in ascending order of name, including families and series that
	// this process never requested. Groups with the same name are in descending order of their
	// last declaration, with those declared by live processes before the others. The result is
	// a snapshot of the existing series; their words are live. It may contain series whose
	// words are all sealed, which do not exist. Label texts that others may have written have
	// passed Family.LabelValues, so pages show them as they are.
	Walk() []Group

	// Flush returns when everything counted before the call is durable, as the backend defines
	// it.
	Flush(ctx context.Context) error

	// Close flushes and releases the backend. Words stay usable, but nobody may see updates
	// made after Close.
	Close(ctx context.Context) error
}

// OverflowValue is the value of all labels of the series that counts for series for which there is
// no room. Backends reserve some room for it.
const OverflowValue = "gotheus_overflow"

// Remote is implemented by backends whose Sync waits for another machine. It is called for pages,
// and in the background, only.
type Remote interface{ Remote() }

// Numbered is implemented by backends that give instances small numbers.
type Numbered interface {
	// Number returns a number that no other live instance has: the lowest that was free.
	Number() int
}

// Publisher is implemented by backends whose updates are visible to other processes only after
// publishing.
type Publisher interface {
	// Unpublished returns the number of words that have changed since they were last published,
	// as far as known without looking at all of them, and an upper bound of how long ago the
	// first change was.
	Unpublished() (words int, lag time.Duration)
}

// Answerer is implemented by backends that depend on another machine.
type Answerer interface {
	// Answered reports whether the machine answered without an error when it was last asked, or
	// was not asked yet; and when it last did, where the zero time means never.
	Answered() (ok bool, last time.Time)
}

// Damageable is implemented by backends that read records which others may have damaged.
type Damageable interface {
	// Damaged returns how many records the last Sync has left out because they cannot be read.
	Damaged() int64
}

// Contacter is implemented by backends on a store, which they do not wait for when they are made.
type Contacter interface {
	// FirstContact returns how the first contact with the store has ended, and waits for that
	// until ctx ends.
	FirstContact(ctx context.Context) error
}

// Clocked is implemented by backends that merge the windows of several instances, see Sketch.
type Clocked interface {
	// SetClock makes the backend use the clock of its user. now may be called concurrently and
	// must not call the backend.
	SetClock(now func() time.Time)
}

// Owner is implemented by backends that know what this instance alone has counted.
type Owner interface {
	// WalkOwn is Walk for the families and series of this instance, with what it has counted
	// since the backend was opened. Families with parts have only this instance's, with a
	// negative number. It never waits.
	WalkOwn() []Group
}

// Reclaimer is implemented by backends that use the space of deleted series for others. Words that
// Cells or Walk has returned must not be used any more once their series was deleted and release
// was told so, except in calls between Enter and leave that began before.
type Reclaimer interface {
	// Reclaim is called from time to time. It calls release, if at all, with series that were
	// deleted. Those that updates in progress may still refer to, release marks as held; they
	// are told again later.
	Reclaim(release func([]Retired))
	// Enter must be called before Walk, and leave when its result is not used any more.
	Enter() (leave func())
}

// Retired is a deleted series whose space is to be used for others.
type Retired struct {
	Family *Family
	Labels string
	Words  []*atomic.Uint64 // the first word of the series, or of each part
	Held   bool             // set by release
}

// Census is implemented by backends in which families may have series that this registry has not
// made: those of other processes, and those from before a restart.
type Census interface {
	// Changes returns a number that changes whenever series come or go, in any process. When
	// one is made or comes back, it grows by the Weight of its labels at least. As far as it
	// depends on another machine, that is noticed by Sync. It costs no more than some loads.
	Changes() uint64

	// Most returns at once an upper bound of the sum of the weights of a family's series.
	Most() int64

	// Existing returns the label texts of all series of f that exist. It does not wait for
	// another machine: series that Sync would have to read from there may be missing.
	Existing(f *Family) []string
}

// Learner is implemented by backends with a Census that depends on another machine.
type Learner interface {
	// Learn reads which series exist, and waits for that until ctx ends. The reading then goes
	// on in the background.
	Learn(ctx context.Context)
}

// Weight returns for how many series one with this label text counts towards a limit: 1, and one
// more for each KiB of text, so that a limit of series also limits memory.
func Weight(labels string) int64 { return 1 + int64(len(labels))/1024 }

// Sized is implemented by backends that have a limited space for all processes.
type Sized interface {
	// Space returns, in bytes, how much of the space has ever been used, how much of that
	// deleted series had and no others have yet, and how much there is. It reads a few words.
	Space() (used, wasted, limit uint64)
}

// Noticer is implemented by backends that report how they were opened.
type Noticer interface {
	// Notices returns messages for an operator: sentences for a log.
	Notices() []string
}

// IsRemote reports whether Sync of b waits for another machine.
func IsRemote(b Backend) bool {
	_, ok := b.(Remote)
	return ok
}
