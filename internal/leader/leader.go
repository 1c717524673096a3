// Package leader elects the process whose page shows the total.
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

// Name is the name of the family of the candidates.
const Name = "gotheus_candidate_start_time_seconds"

const (
	help = "When this process was first scraped with ScopeLeader. The live process with the earliest time leads."

	// patience is how long a process that is no longer scraped may still lead. After the same
	// time, Prometheus drops the series of a target that it cannot scrape.
	patience = 5 * time.Minute

	// A backend may take stopped processes for live ones. So candidates send a heartbeat each
	// beatInterval, and a process ignores those that it has seen none of for silenceLimit.
	beatInterval, silenceLimit = 2 * time.Second, 10 * time.Second
)

// candidateFamily holds the candidates. Each process has its own words, which vanish with it: the
// value is the time since when it may lead, the flags include its heartbeat, and the ticket is a
// random number that identifies it.
var candidateFamily = &backend.Family{Name: Name, Help: help, Unit: "seconds", Kind: backend.Gauge, Mode: backend.PerInstance}

// Candidate is this process's candidacy. The zero value is ready, and not a candidate yet.
type Candidate struct {
	mu        sync.Mutex
	home      backend.Backend // nil: it is not a candidate
	words     backend.Words
	id        uint64
	since     time.Time
	asked     time.Time
	beat      uint64
	timer     *time.Timer
	sightings map[uint64]sighting // of other candidates, by id
}

// sighting is since when this process has seen another candidate's flags unchanged.
type sighting struct {
	flags uint64
	at    time.Time
}

// Stand makes this process a candidate in b, unless b is no longer in use.
func (c *Candidate) Stand(b backend.Backend, inUse func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !inUse() { // the registry was closed meanwhile
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
	c.step(false)
	c.home, c.words, c.since = b, words, c.asked
	c.id = rand.Uint64()>>1 | 1
	c.sightings = make(map[uint64]sighting)
	c.words[backend.GaugeTicket].Store(c.id)
	c.words[backend.GaugeValue].Store(math.Float64bits(float64(c.since.UnixMicro()) / 1e6))
	c.sign() // last: now it is a candidate
	every := patience
	if !backend.IsRemote(b) { // stores tell which processes are alive
		every = beatInterval
	}
	c.timer = time.AfterFunc(every, func() { c.tick(b, every) })
	return nil
}

// sign sends a heartbeat. mu is held.
func (c *Candidate) sign() {
	c.beat++
	c.words[backend.GaugeFlags].Store(backend.GaugeIsSet | backend.GaugeJoined | c.beat*backend.GaugeTouch)
}

func (c *Candidate) tick(b backend.Backend, every time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.home != b:
	case time.Since(c.asked) >= patience:
		c.step(true)
	default:
		c.sign()
		c.timer.Reset(every)
	}
}

// Stop ends the candidacy. It is called before the registry leaves the backend.
func (c *Candidate) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(true)
}

// step steps down. mu is held.
func (c *Candidate) step(seal bool) {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.home != nil && seal {
		candidateFamily.Seal(c.words)
	}
	c.home, c.words, c.timer, c.sightings = nil, nil, nil, nil
}

// Leads reports whether this process leads, and which instance it is, by the data of the last Sync.
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
		return false, nil, errors.New("the leader is unknown: the backend does not show this process")
	}
	return first == c.id, self, nil
}

// silent reports whether another candidate's last heartbeat is too old. mu is held.
func (c *Candidate) silent(id, flags uint64, now time.Time) bool {
	if c.home == nil || backend.IsRemote(c.home) {
		return false
	}
	s, ok := c.sightings[id]
	if !ok || s.flags != flags {
		if len(c.sightings) > 1000 { // most of them dead
			clear(c.sightings)
		}
		c.sightings[id] = sighting{flags, now}
		return false
	}
	return now.Sub(s.at) >= silenceLimit
}
