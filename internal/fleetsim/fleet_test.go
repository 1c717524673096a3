package fleetsim

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	simSeed     = flag.Uint64("sim.seed", 0, "the one history to simulate, with a trace if it fails")
	simKinds    = flag.String("sim.kinds", "", "the one mix of faults: changes to the table, as in +evictions,-forks; none or all may come first")
	simFrom     = flag.Uint64("sim.from", 1, "the first seed")
	simHours    = flag.Float64("sim.hours", 0, "how many hours are simulated for each mix; 0: a fixed number of histories")
	simParallel = flag.Int("sim.parallel", runtime.GOMAXPROCS(0), "how many histories are simulated at a time")
	simTrace    = flag.Int("sim.trace", 300, "how many of the last events of the one history are shown")
)

const noLosses = "-empty-restarts,-old-restarts,-failovers,-forks"

// mixes are the kinds of faults that are combined, and how many histories there are without
// -sim.hours.
var mixes = []struct {
	name, kinds string
	histories   uint64
}{
	{"no losses", noLosses, 60},
	{"empty restarts", "none,+empty-restarts,+partitions,+refused-writes,+bursts,+deletions,+kills,+closes,+close-restores,+head-server,+exact-floats", 15},
	{"old restarts", "none,+old-restarts,+hangs,+refused-writes,+bursts,+deletions,+kills,+closes,+head-server,+noticed-before,+exact-floats", 15},
	{"failovers", "none,+failovers,+partitions,+duplicates,+bursts,+deletions,+kills,+head-server,+clock-jumps,+clocks-not-compared,+exact-floats", 15},
	{"partial losses", "none,+evictions,+deletions,+head-server,+exact-floats", 15},
	{"damages", "none,+damages,+deletions,+kills,+closes,+pauses,+bursts,-lower-bounds", 15},
	{"all at once", "all,-lower-bounds,-long-forks", 30},
}

// A fleet lives through faults of all kinds. All pages are right meanwhile, within what
// docs/redis.md promises, and exact at the end.
func TestFleet(t *testing.T) {
	t.Parallel()
	if *simKinds != "" || *simSeed > 0 {
		set, err := newSetting(*simKinds)
		if err != nil {
			t.Fatal(err)
		}
		if *simSeed == 0 {
			campaign(t, *simKinds, set, 200)
			return
		}
		r := simulate(t, *simSeed, set, true)
		if r.failure != "" {
			t.Errorf("%s\n%s", strings.Join(r.trace, "\n"), r.failure)
		}
		t.Logf("%+v", r.stats)
		return
	}
	for _, m := range mixes {
		set, err := newSetting(m.kinds)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(m.name, func(t *testing.T) { campaign(t, m.kinds, set, m.histories/share) })
	}
}

// These histories once counted something twice. Later changes may have made others of them.
func TestFound(t *testing.T) {
	t.Parallel()
	for kinds, seeds := range map[string][]uint64{
		mixes[1].kinds:                          {209},
		"+head-server,+evictions,-lower-bounds": {54, 58, 149},
		"none,+head-server,+old-restarts,+kills,+partitions,-lower-bounds": {15, 42},
	} {
		set, err := newSetting(kinds)
		if err != nil {
			t.Fatal(err)
		}
		for _, seed := range seeds {
			if r := simulate(t, seed, set, false); r.failure != "" {
				t.Errorf("-sim.seed %d -sim.kinds %q: %s", seed, kinds, r.failure)
			}
		}
	}
}

// campaign simulates many histories, in several goroutines.
func campaign(t *testing.T, kinds string, set setting, histories uint64) {
	var next atomic.Uint64
	var mu sync.Mutex
	var all stats
	failures, n := 0, 0
	begun := time.Now()
	t.Run("histories", func(t *testing.T) {
		for i := range max(1, *simParallel) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for {
					seed := *simFrom + next.Add(1) - 1
					mu.Lock()
					enough := *simHours > 0 && all.hours >= *simHours || *simHours == 0 && seed >= *simFrom+histories
					mu.Unlock()
					if enough {
						return
					}
					r := simulate(t, seed, set, false)
					mu.Lock()
					n++
					all.add(r.stats)
					if r.failure != "" {
						if failures++; failures <= 20 {
							t.Errorf("-sim.seed %d -sim.kinds %q: %s", seed, kinds, r.failure)
						}
					}
					mu.Unlock()
				}
			})
		}
	})
	minutes := time.Since(begun).Minutes() * float64(max(1, *simParallel))
	t.Logf("%d histories, %d of them wrong: %.0f hours, %.0f in a minute of one goroutine; %d pages, %d refused, %d commits, %d kills, %d losses, %d ended at a limit",
		n, failures, all.hours, all.hours/minutes, all.pages, all.refused, all.commits, all.kills, all.losses, all.limited)
}

func (w *world) keep() int { return max(1, *simTrace) }

// result is the outcome of a history.
type result struct {
	failure string
	hash    uint64
	trace   []string
	stats   stats
}

// simulate runs one history.
func simulate(t *testing.T, seed uint64, set setting, tracing bool) (r result) {
	synctest.Test(t, func(*testing.T) {
		w := newWorld(seed, set, tracing)
		w.history()
		r = result{w.failure, w.hash, w.trace, w.stats}
	})
	return r
}

// The same seed gives the same history, event by event. Calls that time out are left out: two
// timeouts of a process may end at the same instant, and which goroutine runs first is not decided.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	set, err := newSetting("none,+kills,+closes,+bursts,+deletions,+old-restarts,+head-server")
	if err != nil {
		t.Fatal(err)
	}
	for seed := uint64(1); seed <= 6; seed++ {
		a, b := simulate(t, seed, set, true), simulate(t, seed, set, true)
		if a.hash == b.hash && a.failure == b.failure {
			continue
		}
		for i := range min(len(a.trace), len(b.trace)) {
			if a.trace[i] != b.trace[i] {
				t.Logf("%s\n%s", a.trace[i], b.trace[i])
				break
			}
		}
		t.Errorf("seed %d: two histories: %s, %s", seed, a.failure, b.failure)
	}
}
