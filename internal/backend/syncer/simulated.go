package syncer

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

// Simulation replaces what a Syncer takes from its surroundings, so that a test can repeat a
// history exactly. The functions may be called concurrently.
type Simulation struct {
	Now    func() time.Time // nil: time.Now
	Random func() uint64    // nil: the global source
	Piece  int              // approximate size of a commit in bytes; 0: as in production
}

// NewSimulated is New for tests that simulate whole fleets.
func NewSimulated(st store.Store, o *store.Options, m Simulation) (*Syncer, error) {
	opt, err := check([]store.Store{st}, o)
	if err != nil {
		return nil, err
	}
	all := options{Options: opt, now: m.Now, random: m.Random, piece: m.Piece}
	return newSingle(st, all), nil
}

// Records returns how many records of other instances, of the base and of this instance's past are
// kept in memory: a bound for what a process needs for each process that is or was alive. It waits
// for the present use of the store.
func (s *Syncer) Records() int {
	s.op <- struct{}{}
	defer func() { <-s.op }()
	n := len(s.others) + len(s.found) + len(s.foreign) + len(s.orphans)
	return n + len(s.sent) + len(s.before) + len(s.past)
}

// jitter returns a random time below limit.
func (s *Syncer) jitter(limit time.Duration) time.Duration {
	return time.Duration(s.random() % uint64(limit))
}

// sorted returns the keys of a map in ascending order. Wherever the order of a map decides the
// order of commits, this order is used, so that histories can be repeated.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
