package fleetsim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/gotheus/gotheus/store"
)

// actions are what the driver does, by weight.
var actions = []struct {
	kind   kind
	weight int
	do     func(*world)
}{
	{always, 400, func(w *world) {
		for range 1 + w.rnd.IntN(4) {
			if p := w.pick(); p != nil {
				w.count(p)
			}
		}
	}},
	{always, 150, func(w *world) {
		if p := w.pick(); p != nil && p.busy < 2 {
			w.scrape(p)
		}
	}},
	{always, 100, func(w *world) {
		if p := w.pick(); p != nil {
			w.flush(p)
		}
	}},
	{always, 20, func(w *world) { w.setLoss([]float64{0, 0, 0.01, 0.05, 0.3}[w.rnd.IntN(5)]) }},
	{always, 30, func(w *world) {
		if len(w.procs) < 8 {
			w.start()
		}
	}},
	{closes, 25, func(w *world) {
		if p := w.pick(); p != nil && len(w.procs) > 2 {
			w.leave(p)
		}
	}},
	{kills, 25, func(w *world) {
		if len(w.procs) > 2 {
			w.kill(w.procs[w.rnd.IntN(len(w.procs))])
		}
	}},
	{bursts, 25, (*world).oneShot},
	{bursts, 2, func(w *world) {
		for range 20 {
			if w.rnd.IntN(5) == 0 && len(w.procs) < 20 {
				w.count(w.start())
			} else {
				w.oneShot()
			}
		}
	}},
	{pauses, 15, (*world).pause},
	{partitions, 10, (*world).partition},
	{deletions, 20, (*world).deleteSeries},
	{refusals, 8, func(w *world) { w.outage(down) }},
	{hangs, 8, func(w *world) { w.outage(hanging) }},
	{refusedWrites, 8, func(w *world) { w.outage(readOnly) }},
	{oldRestarts, 10, func(w *world) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.snapshots = append(w.snapshots, w.main.snapshot())
		w.snapshots = w.snapshots[max(0, len(w.snapshots)-4):]
	}},
	{emptyRestarts, 4, func(w *world) { w.restart(snapshot{}) }},
	{oldRestarts, 4, func(w *world) {
		if n := len(w.snapshots); n > 0 {
			w.restart(w.snapshots[w.rnd.IntN(n)])
		}
	}},
	{failovers, 6, func(w *world) { w.failover(false) }},
	{forks, 4, func(w *world) { w.failover(true) }},
	{evictions, 8, (*world).evict},
	{damages, 8, (*world).damage},
}

func (w *world) setLoss(p float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loss = p
}

// oneShot is a process that counts and closes within a second.
func (w *world) oneShot() {
	if len(w.procs) > 40 {
		return
	}
	p := w.start()
	w.count(p)
	w.after(w.upTo(time.Second), func() {
		if !p.ended && !p.leaving && p.paused == nil {
			w.count(p)
			w.leave(p)
		}
	})
}

// pause stops a process, as SIGSTOP does, mostly for longer than it counts as alive.
func (w *world) pause() {
	p := w.pick()
	if p == nil {
		return
	}
	w.event("stop", p, "")
	w.mu.Lock()
	until := make(chan struct{})
	p.paused = until
	w.mu.Unlock()
	w.after(w.upTo(4*w.alive), func() {
		w.event("continue", p, "")
		w.mu.Lock()
		defer w.mu.Unlock()
		p.healthy, p.paused = w.now(), nil
		close(until)
	})
}

// partition cuts some processes off for a while.
func (w *world) partition() {
	var list []*proc
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.procs {
		if w.rnd.IntN(2) == 0 {
			w.event("cut", p, "")
			p.cut = true
			list = append(list, p)
		}
	}
	w.after(w.upTo(3*w.alive), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range list {
			w.event("heal", p, "")
			p.cut, p.healthy = false, w.now()
		}
	})
}

func (w *world) deleteSeries() {
	p := w.pick()
	if p == nil {
		return
	}
	if w.rnd.IntN(4) > 0 {
		labels := fmt.Sprintf(`x="%d"`, w.rnd.IntN(8))
		ok, err := p.s.DeleteSeries(tenant, labels)
		w.event("delete", p, "%s: %v, %v", labels, ok, err)
		return
	}
	n, err := p.s.Delete(tenant, func(labels string) bool { return labels < `x="4"` })
	w.event("delete", p, "%d, %v", n, err)
}

// outage makes the server answer in another way for a while.
func (w *world) outage(m mode) {
	s := w.main
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.mode != serving {
		return
	}
	w.event("outage", nil, "%d", m)
	s.mode = m
	w.after(w.upTo(2*w.alive), func() {
		w.event("end of outage", nil, "")
		w.mu.Lock()
		defer w.mu.Unlock()
		if s.mode == hanging {
			s.release()
		}
		s.mode = serving
	})
}

// restart makes the server lose its data, or go back to an older state.
func (w *world) restart(to snapshot) {
	s := w.main
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.mode != serving {
		return
	}
	w.event("restart", nil, "as of %v %d", to.at.gen, to.at.n)
	w.stats.losses++
	s.mode = down
	w.after(w.upTo(w.alive/time.Duration(1+w.rnd.IntN(20))), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		s.restart(to)
		s.mode = serving
	})
}

// failover promotes a replica that lacks the last commits. With a fork, the old master still serves
// some processes for a while.
func (w *world) failover(fork bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.main
	if s.mode != serving || w.old != nil {
		return
	}
	lag := []int{0, 1, 3, 10, 50, maxUndo}[w.rnd.IntN(6)]
	w.stats.losses++
	promote := func() {
		r, lacks := s.replica(w.rnd.IntN(lag + 1))
		if w.on(clockJumps) && w.rnd.IntN(2) == 0 {
			r.clock += w.upTo(10*time.Hour) - 5*time.Hour
		}
		w.event("failover", nil, "the replica lacks %d commits, fork %v", lacks, fork)
		w.main = r
		r.begin(s.gen, s.gen.n-lacks)
	}
	if !fork {
		s.mode = down
		w.after(w.upTo(w.alive), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			promote()
		})
		return
	}
	for _, p := range w.procs {
		p.old = w.rnd.IntN(2) == 0
	}
	w.old = s
	promote()
	length := w.upTo(w.alive)
	if w.on(longForks) {
		length *= 4
	}
	w.after(length, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.event("end of fork", nil, "")
		w.old = nil
	})
}

// spoil has change do something to the heads and parts of the server, if there are any; change
// returns whether it has. Nothing is certain to be left then but what processes know.
func (w *world) spoil(change func(s *server, heads []string, parts []store.Key) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.main
	if s.mode != serving {
		return
	}
	heads, parts := sortedHeads(s), sortedParts(s)
	if len(heads) == 0 || len(parts) == 0 || !change(s, heads, parts) {
		return
	}
	w.stats.losses++
	s.undo = nil
	s.begin(nil, 0)
}

// evict makes the server lose one head, one part or one group.
func (w *world) evict() { w.spoil(w.evictOne) }

func (w *world) evictOne(s *server, heads []string, parts []store.Key) bool {
	k := parts[w.rnd.IntN(len(parts))]
	switch w.rnd.IntN(3) {
	case 0:
		name := heads[w.rnd.IntN(len(heads))]
		w.event("evict", nil, "head %s", name)
		delete(s.heads, name)
	case 1:
		w.event("evict", nil, "part %v", k)
		delete(s.parts, k)
	default:
		w.event("evict", nil, "group %s", k.Group)
		for _, q := range parts {
			if q.Group == k.Group {
				delete(s.parts, q)
			}
		}
	}
	return true
}

// damage makes one head or one part of the server unreadable: nothing is left of it, it ends too
// early, or what follows its beginning is nonsense.
func (w *world) damage() { w.spoil(w.damageOne) }

func (w *world) damageOne(s *server, heads []string, parts []store.Key) bool {
	// The beginning of a head says of which epoch it is, that of a part which version it is.
	nonsense := func(b []byte, kept int) []byte {
		switch w.rnd.IntN(3) {
		case 0:
			return []byte{}
		case 1:
			return []byte{0x80}
		}
		return append(bytes.Clone(b[:min(len(b), kept)]), bytes.Repeat([]byte{0xff}, 12)...)
	}
	if w.rnd.IntN(3) == 0 {
		name := heads[w.rnd.IntN(len(heads))]
		h := s.heads[name]
		if name == "meta" {
			return false
		}
		h.value = nonsense(h.value, 8)
		w.event("damage", nil, "head %s: %x", name, h.value)
		s.heads[name] = h
	} else {
		k := parts[w.rnd.IntN(len(parts))]
		_, seq := binary.Uvarint(s.parts[k])
		s.parts[k] = nonsense(s.parts[k], max(seq, 0))
		w.event("damage", nil, "part %v: %x", k, s.parts[k])
	}
	return true
}

// calm ends all faults.
func (w *world) calm() {
	w.setLoss(0)
	due := w.due
	w.due = nil
	for _, e := range due {
		e.do()
		w.step(0)
	}
	w.mu.Lock()
	w.old = nil
	w.mu.Unlock()
	for _, p := range slices.Clone(w.procs) {
		w.mu.Lock()
		p.healthy = w.now()
		w.mu.Unlock()
	}
	if len(w.procs) < 2 {
		w.start()
	}
}
