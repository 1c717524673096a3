// Package backendtest is the conformance kit for backends: [TestBackend] says which rule of
// backend.Backend each case checks, [BenchmarkBackend] measures what they cost. [Memory] is a store
// to compare with, [Faulty] a network with faults. The rules of stores are in package storetest.
package backendtest

import (
	"flag"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

var (
	histories = flag.Int("kit.histories", 4, "how many random histories TestBackend plays")
	only      = flag.Uint64("kit.seed", 0, "the one history that TestBackend plays")
)

// Backends configures [TestBackend] and [BenchmarkBackend].
type Backends struct {
	// Fresh creates a new, empty place and returns its name. It may use t.Cleanup to remove it.
	Fresh func(t testing.TB) (place string)
	// Open opens a backend in a place, once for each instance. It may be called concurrently,
	// and in other processes if Processes is set. The test closes what it has opened.
	Open func(place string) (backend.Backend, error)
	// Alone means that instances share nothing, as in the heap: tests that need two instances
	// are skipped.
	Alone bool
	// Processes means that Open finds a place in other processes, too. TestMain must call
	// [Worker].
	Processes bool
	// Small creates a place with room for a hundred series but not for 100,000; nil if there is
	// no limit.
	Small func(t testing.TB) (place string)
	// Die simulates the death of a backend's process; if it is nil, only child processes are
	// killed.
	Die func(b backend.Backend)
}

// OnStore returns an Open function for Backends that uses package syncer with a store. Each backend
// has a network that loses requests and replies, and delivers requests twice, each one time in
// faults; 0 for never.
func OnStore(open func(place string) (store.Store, error), faults int) func(place string) (backend.Backend, error) {
	return OnStores(func(place string) ([]store.Store, error) {
		s, err := open(place)
		if err != nil {
			return nil, err
		}
		return []store.Store{s}, nil
	}, faults)
}

// OnStores is OnStore for series that are distributed over several stores, see syncer.NewSharded.
func OnStores(open func(place string) ([]store.Store, error), faults int) func(place string) (backend.Backend, error) {
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(1, 3))
	next := func() Fault {
		mu.Lock()
		defer mu.Unlock()
		if faults > 0 && rnd.IntN(faults) == 0 {
			return []Fault{LoseRequest, LoseReply, Duplicate}[rnd.IntN(3)]
		}
		return None
	}
	return func(place string) (backend.Backend, error) {
		stores, err := open(place)
		if err != nil {
			return nil, err
		}
		faulty := make([]store.Store, len(stores))
		for i, s := range stores {
			faulty[i] = &Faulty{Store: s, Next: next}
		}
		return syncer.NewSharded(faulty, &store.Options{
			Interval: 20 * time.Millisecond, Alive: 5 * time.Second, Logger: slog.New(slog.DiscardHandler),
		})
	}
}

// TestBackend checks that backends obey the contract of backend.Backend, with tests of single rules
// and with random histories of several instances, some of them in child processes, that are
// compared with a model. The histories have fixed seeds; -kit.histories runs more of them.
func TestBackend(t *testing.T, o Backends) {
	if o.Processes && !workers.Load() {
		t.Fatal("Processes is set, but TestMain has not called Worker, so that there can be no child processes")
	}
	for _, c := range []struct {
		name, rule string
		run        func(t *testing.T, o *Backends)
		needs      bool
	}{
		{"Declare", "a family that was declared is in Walk of every process, also while it has no series; one of the help texts is shown", testDeclare, true},
		{"Cells", "Cells makes a series at zero, with as many words as Family.Words says, none of them sealed; the same ones for the same series in one process", testCells, true},
		{"Deletion", "Delete seals the words of a series for all processes; who finds the seal gets words at zero from Cells, in which nothing of the former life counts", testDeletion, true},
		{"Close", "Close flushes; words stay usable; what was counted stays for others, and what an instance had for itself goes; then Cells and Declare fail with ErrClosed", testClose, true},
		{"Sharing", "all instances have the same series: what one has counted and flushed, every other one shows after Sync", testSharing, !o.Alone},
		{"Instances", "live instances have small numbers that are unique, and are used again", testInstances, !o.Alone},
		{"Windows", "what Walk shows of a summary within the window of its quantiles is what was counted within it, by whomever, whether these processes live, stand still, or have ended", testWindows, true},
		{"Order", "of families with one name, Walk has the one first that a live process has declared last", testOrder, true},
		{"Limit", "where there is no room, Declare and Cells say ErrFull, what exists goes on, and there is room for the overflow series", testLimit, o.Small != nil},
		{"Concurrent", "all methods may be called concurrently, and nothing is lost or counted twice", testConcurrent, true},
		{"Histories", "whatever instances do in whatever order, each of them shows what all have done", testHistories, true},
		{"Death", "a process that is killed leaves what it had flushed, at least, and what it had counted, at most", testDeath, o.Processes},
	} {
		if !c.needs {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", c.rule)
				}
			})
			c.run(t, &o)
		})
	}
}

// about returns a request about a family.
func about(do string, f *backend.Family, labels string, ops ...op) request {
	return request{Do: do, Schema: forJSON(f.Schema()), Help: f.Help, Labels: labels, Ops: ops}
}

// page returns what p shows.
func (p *peer) page() []group {
	p.t.Helper()
	p.must(request{Do: "sync"})
	return p.must(request{Do: "walk"}).Groups
}

// expect fails the test unless p shows what m contains: at once, except for what depends on which
// instances are alive.
func (m *model) expect(p *peer, dying bool) {
	p.t.Helper()
	problem := func() string { return p.wrong(m.want(), got(p.page())) }
	if dying {
		until(p.t, problem)
	} else if found := problem(); found != "" {
		p.t.Fatal(found)
	}
}

// wrong says how what p shows differs from what it should show, or returns "".
func (p *peer) wrong(want, got []string) string {
	diff := difference(want, got)
	if diff == "" {
		return ""
	}
	return p.name + " shows something else than was done:" + diff
}

// do lets p make a random update of a series, and flush.
func (m *model) do(p *peer, f *backend.Family, labels string) {
	p.t.Helper()
	p.must(about("update", f, labels, m.update(p, f, labels)...))
	p.must(request{Do: "flush"})
}

func (o *Backends) pair(t *testing.T) (a, b *peer) {
	t.Helper()
	place := o.Fresh(t)
	a = o.start(t, place, "a", false)
	if o.Alone {
		return a, a
	}
	return a, o.start(t, place, "b", o.Processes)
}
