package gotheus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Time to live, without a clock on the path of updates: eight times within a TTL, the sweeper looks at the
// words of all series of the family, also those that other processes made. A series whose words have not
// changed for as long as this process has watched it, and for the TTL, is deleted for all. Every process
// that declares the family does so; the words are the same for all of them, so none deletes what another
// one has updated.

// sweeper looks from time to time. Between looks it is a timer, and no goroutine.
type sweeper struct {
	mu    sync.Mutex
	timer *time.Timer
	every time.Duration
	end   context.CancelFunc // of the look under way

	looking sync.Mutex // held during a look
}

// idleState is when a series was last seen to change.
type idleState struct {
	print uint64 // fingerprint of its words
	since time.Time
}

const leastSweep = time.Millisecond

// start sees to it that look is called at least so often.
func (s *sweeper) start(every time.Duration, look func(context.Context)) {
	every = max(every, leastSweep)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.timer == nil:
		s.every = every
		s.timer = time.AfterFunc(every, func() { s.run(look) })
	case every < s.every:
		s.every = every
		s.timer.Reset(every)
	}
}

func (s *sweeper) run(look func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
	defer cancel()
	s.looking.Lock()
	defer s.looking.Unlock()
	s.mu.Lock()
	timer := s.timer
	s.end = cancel
	s.mu.Unlock()
	if timer == nil {
		return
	}
	look(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == timer { // neither stopped nor started again meanwhile
		s.timer.Reset(s.every)
	}
}

// stop ends the looks, and waits for the one under way until ctx ends.
func (s *sweeper) stop(ctx context.Context) {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.end != nil {
		s.end()
	}
	s.mu.Unlock()
	if poll(ctx, s.looking.TryLock) == nil {
		s.looking.Unlock()
	}
}

// sweep deletes what is idle at a time.
func (r *Registry) sweep(ctx context.Context, now time.Time) {
	var families []*family
	for _, f := range r.allFamilies() {
		if f.ttl > 0 {
			families = append(families, f)
		}
	}
	if len(families) == 0 {
		return
	}
	b := r.current()
	if err := b.Sync(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, backend.ErrClosed) {
			return
		}
		r.log(slog.LevelWarn, "sweep", "the backend cannot be read; times to live are judged by what is known", "error", err)
	}
	groups := b.Walk()
	p := new(page)
	for _, f := range families {
		f.drop(func(*series) bool { return true }) // what other processes have deleted
		schema := f.def.Schema()
		groups := named(groups, f.def.Name)
		for i := range groups {
			if groups[i].Family.Schema() == schema {
				idle, lost := f.look(&pageGroup{groups[i], p.blocksFor(f.def, groups)}, now)
				if len(idle) > 0 {
					f.expire(idle)
				}
				for _, labels := range lost {
					b.Cells(f.def, labels) // if there is no room, at the next look
				}
			}
		}
	}
}

// look notes which series have changed. It returns those that are idle, and the declared ones that somebody
// has deleted who does not know that they are to stay.
func (f *family) look(g *pageGroup, now time.Time) (idle map[string]bool, lost []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	idle = make(map[string]bool)
	seen := make(map[string]*idleState, len(g.Series))
	var further []block
	for i := range g.Series {
		s := g.Series[i]
		print, exists := fingerprint(f.def, &g.Group, i)
		further = g.blocksOf(further[:0], s.Labels)
		for i := range further {
			print = mix(print, further[i].family, further[i].words)
		}
		switch {
		case f.pinned[s.Labels]:
			if !exists {
				lost = append(lost, s.Labels)
			}
			continue
		case !exists || !f.owns(s.Labels):
			continue
		}
		st := f.idle[s.Labels]
		if st == nil || st.print != print || inProgress(f.def, &g.Group, i) {
			st = &idleState{print, now}
		}
		if now.Sub(st.since) >= f.ttl {
			idle[s.Labels] = true
			continue
		}
		seen[s.Labels] = st
	}
	f.idle = seen
	return idle, lost
}

// inProgress reports whether the series is a sum over processes that is not zero: what is going on is not
// idle, however long it takes, and its end would take the sum below zero.
func inProgress(f *backend.Family, g *backend.Group, i int) bool {
	if f.Mode != backend.Sum || g.Parts == nil {
		return false
	}
	v, _ := mergeGauge(f.Mode, g.Parts[i].List())
	return v != 0
}

// fingerprint changes with any word of the series itself that an update changes.
func fingerprint(f *backend.Family, g *backend.Group, i int) (print uint64, exists bool) {
	if g.Parts == nil {
		words := g.Series[i].Words
		return mix(print, f, words), !f.Sealed(words)
	}
	for _, p := range g.Parts[i].List() {
		exists = exists || !f.Sealed(p.Words)
		print = mix(print, f, p.Words)
	}
	return print, exists
}

func mix(print uint64, f *backend.Family, w backend.Words) uint64 {
	for i := range w {
		if f.Snapshot(i, len(w)) { // the window moves on without updates
			continue
		}
		print = (print ^ w[i].Load()) * 0x9e3779b97f4a7c15
		print ^= print >> 29
	}
	return print
}
