// Package leader determines which of several processes leads: its page shows the total.
package leader

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Name is the name of the family in which each candidate has a series.
const Name = "gotheus_candidate_start_time_seconds"

const (
	help = "When this process first served a page of ScopeLeader. The first live one leads."

	// patience is how long a process stays a candidate after its last scrape. Prometheus
	// forgets a target that it cannot scrape after the same time.
	patience = 5 * time.Minute

	// A backend may consider a stopped process live. Candidates therefore send a heartbeat
	// every beatInterval, and processes ignore a candidate whose last one they saw silenceLimit
	// ago.
	beatInterval, silenceLimit = 2 * time.Second, 10 * time.Second
)

// candidateFamily lists the candidates. Each process has its own words, which disappear with it:
// the time at which it became a candidate, flags that include its heartbeat and, as the ticket, a
// random number that identifies it.
var candidateFamily = &backend.Family{Name: Name, Help: help, Unit: "seconds", Kind: backend.Gauge, Mode: backend.PerInstance}

// Candidate is this process's candidacy. The zero value does not stand yet.
type Candidate struct {
	mu    sync.Mutex
	home  backend.Backend // nil: this process does not stand
	words backend.Words
	id    uint64
	since time.Time
	asked time.Time
	beat  uint64
	timer *time.Timer
	seen  map[uint64]sighting // of other candidates, by id
}

// sighting records the flags of another candidate and when this process first saw them.
type sighting struct {
	flags uint64
	at    time.Time
}

// Stand makes this process a candidate in b, unless b is no longer in use.
func (c *Candidate) Stand(b backend.Backend, inUse func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !inUse() { // it was closed in the meantime
		return nil
	}
	c.asked = time.Now()
	if c.home == b {
		return nil
	}
	words, err := b.Cells(candidateFamily, "")
	if err != nil {
		return fmt.Errorf("the leader is unknown: %w", err)
	}
	c.resign(false)
	c.home, c.words, c.since = b, words, c.asked
	c.id = rand.Uint64()>>1 | 1
	c.seen = make(map[uint64]sighting)
	c.words[backend.GaugeTicket].Store(c.id)
	c.words[backend.GaugeValue].Store(math.Float64bits(float64(c.since.UnixMicro()) / 1e6))
	c.sendBeat() // last: once the flags are set, other processes read the id and the time
	every := patience
	if !backend.IsRemote(b) { // a store itself tracks which processes are live
		every = beatInterval
	}
	c.timer = time.AfterFunc(every, func() { c.tick(b, every) })
	return nil
}

// sendBeat sends a heartbeat. The caller holds mu.
func (c *Candidate) sendBeat() {
	c.beat++
	c.words[backend.GaugeFlags].Store(backend.GaugeIsSet | backend.GaugeJoined | c.beat*backend.GaugeTouch)
}

func (c *Candidate) tick(b backend.Backend, every time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.home != b:
	case time.Since(c.asked) >= patience:
		c.resign(true)
	default:
		c.sendBeat()
		c.timer.Reset(every)
	}
}

// Stop ends the candidacy. It must be called before the registry leaves the backend.
func (c *Candidate) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resign(true)
}

// resign ends the candidacy, and with seal also deletes its words. The caller holds mu.
func (c *Candidate) resign(seal bool) {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.home != nil && seal {
		candidateFamily.Seal(c.words)
	}
	c.home, c.words, c.timer, c.seen = nil, nil, nil, nil
}

// Leads reports whether this process leads, and returns its instance, according to the groups that
// the backend returned after its last Sync. The live candidate that has stood for longest leads.
func (c *Candidate) Leads(groups []backend.Group) (leads bool, self *backend.Instance, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var first uint64
	var since float64
	for _, g := range index.Named(groups, Name) {
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
		return false, nil, errors.New("the leader is unknown: the backend does not list this process")
	}
	return first == c.id, self, nil
}

// silent reports whether another candidate's last heartbeat was too long ago. The caller holds mu.
func (c *Candidate) silent(id, flags uint64, now time.Time) bool {
	if c.home == nil || backend.IsRemote(c.home) {
		return false
	}
	s, ok := c.seen[id]
	if !ok || s.flags != flags {
		if len(c.seen) > 1000 { // most of them dead
			clear(c.seen)
		}
		c.seen[id] = sighting{flags, now}
		return false
	}
	return now.Sub(s.at) >= silenceLimit
}
