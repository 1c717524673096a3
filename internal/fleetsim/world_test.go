package fleetsim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/store"
)

// world is one history: processes, a network, servers, and what is known about them.
type world struct {
	setting
	seed  uint64
	rnd   *rand.Rand // of the driver
	opt   store.Options
	alive time.Duration
	began time.Time

	mu          sync.Mutex // never held while waiting
	procs       []*proc    // that run, or are stopped
	all         []*proc
	main        *server
	old         *server // that still serves some processes
	generations int
	loss        float64 // how likely it is that a call goes wrong in one of several ways
	due         []deadline
	snapshots   []snapshot
	ids         int
	wg          sync.WaitGroup // what runs for the driver

	totals map[string]float64 // of everything ever counted
	shown  map[string][]evidence
	stats  stats

	report  sync.Mutex
	failure string
	limited bool
	tracing bool
	trace   []string
	hash    uint64
}

type deadline struct {
	at time.Duration
	do func()
}

type stats struct {
	pages, refused, commits, kills, losses, acks, limited int
	hours                                                 float64
}

func (s *stats) add(o stats) {
	s.pages += o.pages
	s.refused += o.refused
	s.commits += o.commits
	s.kills += o.kills
	s.losses += o.losses
	s.acks += o.acks
	s.limited += o.limited
	s.hours += o.hours
}

// profiles are the options of a fleet: those of production, and longer ones, in which hours pass at
// less cost.
var profiles = []store.Options{
	{Interval: 500 * time.Millisecond, Alive: 10 * time.Second, Timeout: 5 * time.Second},
	{Interval: 10 * time.Second, Alive: time.Minute, Timeout: 5 * time.Second},
	{Interval: 2 * time.Minute, Alive: 20 * time.Minute, Timeout: 20 * time.Second},
	{Interval: 2 * time.Second, Alive: 30 * time.Second, Timeout: time.Second},
}

func newWorld(seed uint64, set setting, tracing bool) *world {
	w := &world{
		setting: set, seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), tracing: tracing,
		totals: make(map[string]float64), shown: make(map[string][]evidence),
	}
	w.opt = profiles[w.rnd.IntN(len(profiles))]
	w.alive = w.opt.Alive
	w.opt.Logger = w.logger()
	w.main = w.newServer()
	w.main.clock = time.Duration(w.rnd.Int64N(int64(48 * time.Hour)))
	w.main.begin(nil, 0)
	return w
}

func (w *world) now() time.Duration { return time.Since(w.began) }

// grain is the distance in time of two calls by one process, at least. Within it, every process has
// an instant of its own.
const grain = 1 << 13

// until returns how long it is until an instant that no other process has, at least d from now.
func (w *world) until(slot int64, d time.Duration) time.Duration {
	now := int64(w.now())
	at := (now+int64(d))/grain*grain + slot
	for at <= now {
		at += grain
	}
	return time.Duration(at - now)
}

// delay returns how long a message takes: seldom a twentieth of the timeout, and mostly much less.
func (w *world) delay(r *rand.Rand) time.Duration {
	d := w.opt.Timeout / 2000
	if r.IntN(20) == 0 {
		d = w.opt.Timeout / 20
	}
	return time.Duration(r.Int64N(int64(d)))
}

// event records what happens at this instant. The hash does not depend on the order of events at
// one instant.
func (w *world) event(what string, p *proc, format string, args ...any) {
	w.report.Lock()
	defer w.report.Unlock()
	at, n := w.now(), 0
	if p != nil {
		n = p.n
	}
	if !w.tracing {
		h := uint64(at)*0x9e3779b97f4a7c15 + uint64(n)<<32 + uint64(len(what))
		w.hash += h ^ h>>29
		return
	}
	line := fmt.Sprintf("%v p%d %s %s", at, n, what, fmt.Sprintf(format, args...))
	h := fnv.New64a()
	h.Write([]byte(line))
	w.hash += h.Sum64()
	if w.trace = append(w.trace, line); len(w.trace) > 2*w.keep() {
		w.trace = append([]string(nil), w.trace[w.keep():]...)
	}
}

// outcome records how something has ended. If a call ends for two reasons at one instant, either
// may be its error, so the error's text does not count.
func (w *world) outcome(what string, p *proc, err error) {
	w.event(what, p, "ends: %v", err == nil)
	if w.tracing && err != nil {
		w.report.Lock()
		defer w.report.Unlock()
		w.trace = append(w.trace, fmt.Sprintf("%v p%d   %v", w.now(), p.n, err))
	}
}

// limit ends the history: a documented limit was exceeded, and nothing is known of later pages.
func (w *world) limit() {
	w.report.Lock()
	defer w.report.Unlock()
	w.limited = true
}

// fail records the first failure, at which the history ends.
func (w *world) fail(format string, args ...any) {
	w.report.Lock()
	defer w.report.Unlock()
	if w.failure == "" && !w.limited {
		w.failure = fmt.Sprintf("after %v: ", w.now()) + fmt.Sprintf(format, args...)
	}
}

func (w *world) failed() bool {
	w.report.Lock()
	defer w.report.Unlock()
	return w.failure != "" || w.limited
}

// after plans something that the driver does, within a step of then.
func (w *world) after(d time.Duration, do func()) {
	w.due = append(w.due, deadline{w.now() + d, do})
}

// step lets time pass and then does what is due. Everything that this wakes has gone to sleep again
// when it returns.
func (w *world) step(d time.Duration) {
	time.Sleep(w.until(0, d))
	synctest.Wait()
	due := w.due
	w.due = nil
	for _, e := range due {
		if e.at > w.now() {
			w.due = append(w.due, e)
			continue
		}
		e.do()
		synctest.Wait()
	}
}

// route returns the server that a process reaches, and whether the network is cut. mu is held.
func (w *world) route(p *proc) (s *server, cut bool) {
	if w.old != nil && p.old {
		return w.old, p.cut
	}
	return w.main, p.cut
}

// pick returns one of the processes that run, or nil.
func (w *world) pick() *proc {
	var list []*proc
	for _, p := range w.procs {
		if p.paused == nil && !p.leaving {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.rnd.IntN(len(list))]
}

// upTo returns a random time below d.
func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rnd.Int64N(int64(d))) }

// history lets a fleet live for a while, and then checks that everything is in order again.
func (w *world) history() {
	for range 2 + w.rnd.IntN(3) {
		w.start()
	}
	total := 0
	for _, a := range actions {
		if w.on(a.kind) {
			total += a.weight
		}
	}
	end := time.Duration(20+w.rnd.IntN(60)) * w.alive
	for w.now() < end && !w.failed() {
		w.step(w.upTo(w.alive / 8))
		at := w.rnd.IntN(total)
		for _, a := range actions {
			if w.on(a.kind) {
				if at -= a.weight; at < 0 {
					a.do(w)
					break
				}
			}
		}
		synctest.Wait()
	}
	if !w.failed() {
		w.settle()
	}
	w.stats.hours = w.now().Hours()
	if w.limited {
		w.stats.limited++
	}
	w.mu.Lock()
	w.main.mode = down
	procs := w.all
	w.mu.Unlock()
	for _, p := range procs {
		w.kill(p)
	}
	w.wg.Wait()
	synctest.Wait()
}
