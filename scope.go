package gotheus

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Scope says whose counts a page shows. It matters where processes share a backend and several of them are scraped
// as targets of their own: each page being the total, their sum would be a multiple of it.
type Scope uint8

const (
	// ScopeAll is the total of all processes, on every page. It is for one address behind which any
	// process answers, and for a process that exports for all.
	ScopeAll Scope = iota
	// ScopeOwn is what this process has counted itself since it was bound, as without a backend: the sum over
	// all targets is what the live processes have counted. What the dead have counted is on no page. It
	// does not wait for the backend. Only backends that implement [backend.Owner] know it; shared memory does
	// not, since all processes count in the same words.
	ScopeOwn
	// ScopeLeader is the total on the page of one process, and on the pages of all nothing but what is each
	// process's own: metrics of ModePerProcess, without the label "process". So the sum over all targets is
	// the total. The leader is, of the live processes that are scraped with this scope, the one that was first.
	// It is found anew for each page, from the same reading of the backend as the page itself. There is
	// no page if the backend cannot be read, also where other pages would show what is known.
	//
	// At any moment there is one leader. When it changes, pages that are made before and after, within one
	// round of scrapes, can both be the total, or neither of them.
	ScopeLeader
)

func (s Scope) String() string {
	switch s {
	case ScopeAll:
		return "all"
	case ScopeOwn:
		return "own"
	case ScopeLeader:
		return "leader"
	}
	return fmt.Sprintf("scope(%d)", uint8(s))
}

// ErrScope is wrapped by the error of a page with a scope that the backend does not know. Nothing was written.
var ErrScope = errors.New("gotheus: the backend has no pages of this scope")

const (
	candidateName = "gotheus_candidate_start_time_seconds"
	candidateHelp = "When this process was first asked for a page of the scope Leader. The first live one leads."

	leaderName = "gotheus_leader"
	leaderHelp = "Whether this page, of the scope Leader, is the total of all processes."

	// candidateTime is how long a process that is not asked any more still may lead. Prometheus forgets a target
	// that it cannot scrape after the same time.
	candidateTime = 5 * time.Minute
	// A backend may take stopped processes for alive. A leader gives a sign of life as often as this, and is not
	// one if another process has watched it give none for some time.
	beatTime, silentTime = 2 * time.Second, 10 * time.Second
)

// candidateFamily says who may lead. Each process has words of its own, which vanish with it: since when, flags
// that also hold the beat, and, as the ticket, a random number that tells it apart.
var candidateFamily = &backend.Family{Name: candidateName, Help: candidateHelp, Unit: "seconds", Kind: backend.Gauge, Mode: backend.PerInstance}

// candidate is this process as one that may lead.
type candidate struct {
	mu    sync.Mutex
	home  *binding // nil: it is none
	words backend.Words
	id    uint64
	since time.Time
	asked time.Time
	beat  uint64
	timer *time.Timer
	seen  map[uint64]sight // of others, by their ids
}

// sight is since when another one's flags have been as they are, as far as this process has watched.
type sight struct {
	flags uint64
	at    time.Time
}

// stand makes this process a candidate in b.
func (c *candidate) stand(r *Registry, b *binding) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.current() != b { // it was closed meanwhile
		return nil
	}
	c.asked = time.Now()
	if c.home == b {
		return nil
	}
	words, err := b.Cells(candidateFamily, "")
	if err != nil {
		return fmt.Errorf("who leads is not known: %w", err)
	}
	c.step(false)
	c.home, c.words, c.since = b, words, c.asked
	c.id = rand.Uint64()>>1 | 1
	c.seen = make(map[uint64]sight)
	c.words[backend.GaugeTicket].Store(c.id)
	c.words[backend.GaugeValue].Store(math.Float64bits(float64(c.since.UnixMicro()) / 1e6))
	c.sign() // last: now it counts
	every := candidateTime
	if !isRemote(b) { // others are alive if their stores have heard of them
		every = beatTime
	}
	c.timer = time.AfterFunc(every, func() { c.tick(b, every) })
	return nil
}

// sign shows that this process runs. mu is held.
func (c *candidate) sign() {
	c.beat++
	c.words[backend.GaugeFlags].Store(backend.GaugeIsSet | backend.GaugeJoined | c.beat*backend.GaugeTouch)
}

func (c *candidate) tick(b *binding, every time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.home != b:
	case time.Since(c.asked) >= candidateTime:
		c.step(true)
	default:
		c.sign()
		c.timer.Reset(every)
	}
}

// stop ends the candidacy, before the backend is left.
func (c *candidate) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(true)
}

// step steps back. mu is held.
func (c *candidate) step(seal bool) {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.home != nil && seal {
		candidateFamily.Seal(c.words)
	}
	c.home, c.words, c.timer, c.seen = nil, nil, nil, nil
}

// leads reports whether this process leads, and which instance it is, by what the last Sync has found.
func (c *candidate) leads(groups []backend.Group) (leads bool, self *backend.Instance, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var first uint64
	var since float64
	for _, g := range named(groups, candidateName) {
		if g.Family.Schema() != candidateFamily.Schema() || len(g.Series) == 0 {
			continue
		}
		for _, p := range g.Parts[0].List() {
			flags, value := p.Words[backend.GaugeFlags].Load(), p.Words[backend.GaugeValue].Load()
			id := p.Words[backend.GaugeTicket].Load()
			if !p.Live() || flags&backend.GaugeJoined == 0 || value == backend.SealedFloat {
				continue
			}
			if id == c.id && c.home != nil {
				self = p.Instance
			} else if c.silent(id, flags, now) {
				continue
			}
			if v := math.Float64frombits(value); first == 0 || v < since || v == since && id < first {
				first, since = id, v
			}
		}
	}
	if self == nil {
		return false, nil, errors.New("who leads is not known: the backend does not show this process")
	}
	return first == c.id, self, nil
}

// silent reports whether another candidate has given no sign of life for too long. mu is held.
func (c *candidate) silent(id, flags uint64, now time.Time) bool {
	if c.home == nil || isRemote(c.home) {
		return false
	}
	s, ok := c.seen[id]
	if !ok || s.flags != flags {
		if len(c.seen) > 1000 { // most of them dead
			clear(c.seen)
		}
		c.seen[id] = sight{flags, now}
		return false
	}
	return now.Sub(s.at) >= silentTime
}

func isRemote(b *binding) bool {
	_, ok := b.Backend.(backend.Remote)
	return ok
}

// narrow leaves out of groups what this process does not show in the scope Leader. Parts of other instances are
// left out while the page is encoded.
func (r *Registry) narrow(p *page, b *binding, groups []backend.Group) ([]backend.Group, error) {
	leads, self, err := true, (*backend.Instance)(nil), error(nil)
	if !b.local {
		if leads, self, err = r.candidate.leads(groups); err != nil {
			return nil, err
		}
	}
	p.only, p.follows = self, !leads
	if leads {
		return groups, nil
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g backend.Group) bool { return g.Family.Mode != backend.PerInstance }), nil
}

// ownGroups returns what this process has counted.
func (r *Registry) ownGroups(b *binding) ([]backend.Group, error) {
	if b.local {
		return b.Walk(), nil
	}
	if o, ok := b.Backend.(backend.Owner); ok {
		return o.WalkOwn(), nil
	}
	err := fmt.Errorf("%w: %v: in %T, all processes count in the same words", ErrScope, ScopeOwn, b.Backend)
	r.log(slog.LevelError, "scope", "a page with this scope cannot be made; use All, or Leader", "error", err)
	return nil, err
}
