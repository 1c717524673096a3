// Package leader finds the one of several processes whose page shows the total.
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

// Name is the name of the family that candidates stand in.
const Name = "gotheus_candidate_start_time_seconds"

const (
	help = "When this process was first asked for a page of the scope Leader. The first live one leads."

	// patience is how long a process that is not asked any more may still lead. Prometheus
	// forgets a target that it cannot scrape after the same time.
	patience = 5 * time.Minute

	// A backend may take stopped processes for alive. So a leader gives a sign of life each
	// beatInterval, and does not lead if another process has seen none for silenceLimit.
	beatInterval, silenceLimit = 2 * time.Second, 10 * time.Second
)

// candidateFamily says who may lead. Each process has words of its own, which vanish with it: the
// time since when it may lead, flags that also hold its heartbeat and, as the ticket, a random
// number that tells it apart.
var candidateFamily = &backend.Family{Name: Name, Help: help, Unit: "seconds", Kind: backend.Gauge, Mode: backend.PerInstance}

// Candidate is this process as one that may lead. The zero value is not a candidate yet.
type Candidate struct {
	mu    sync.Mutex
	home  backend.Backend // nil: it is none
	words backend.Words
	id    uint64
	since time.Time
	asked time.Time
	beat  uint64
	timer *time.Timer
	seen  map[uint64]sighting // of others, by their ids
}

// sighting is since when another one's flags have been as they are, as far as this process has
// watched.
type sighting struct {
	flags uint64
	at    time.Time
}

// Stand makes this process a candidate in b, unless b is not in use any more.
func (c *Candidate) Stand(b backend.Backend, inUse func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !inUse() { // it was closed meanwhile
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
	c.seen = make(map[uint64]sighting)
	c.words[backend.GaugeTicket].Store(c.id)
	c.words[backend.GaugeValue].Store(math.Float64bits(float64(c.since.UnixMicro()) / 1e6))
	c.sign() // last: now it counts
	every := patience
	if !backend.IsRemote(b) { // others are alive if their stores have heard of them
		every = beatInterval
	}
	c.timer = time.AfterFunc(every, func() { c.tick(b, every) })
	return nil
}

// sign shows that this process runs. mu is held.
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

// Stop ends the candidacy, before the backend is left.
func (c *Candidate) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step(true)
}

// step steps back. mu is held.
func (c *Candidate) step(seal bool) {
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.home != nil && seal {
		candidateFamily.Seal(c.words)
	}
	c.home, c.words, c.timer, c.seen = nil, nil, nil, nil
}

// Leads reports whether this process leads, and which instance it is, by what the last Sync has
// found.
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
		return false, nil, errors.New("who leads is not known: the backend does not show this process")
	}
	return first == c.id, self, nil
}

// silent reports whether another candidate has given no sign of life for too long. mu is held.
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
