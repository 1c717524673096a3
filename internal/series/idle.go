package series

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Series expire without a clock on the update path: eight times per TTL, each process that declares
// the family compares the words of all its series, including those of other processes, with what it
// saw before. It deletes a series for all processes once it has seen no change for the TTL. All
// processes compare the same words, so none deletes a series that another one keeps updating.

// idleState records when a series was last seen to change.
type idleState struct {
	hash  uint64 // fingerprint of its words
	since time.Time
	sweep uint64 // the last one that has seen it
}

// Watch starts the timers for the family's TTL and the window of its quantiles, if it has them.
func (f *Family) Watch() {
	h := f.Home
	if f.TTL > 0 {
		h.idle.Start(f.TTL/8, Timeout, func(ctx context.Context) bool {
			h.Expire(ctx, h.Now())
			return true
		})
	}
	if f.Def.Sketch != nil { // a separate timer, since Expire waits for backends
		h.windows.Start(f.Def.Sketch.Slot()/4, Timeout, func(context.Context) bool {
			h.AdvanceWindows(h.Now())
			return true
		})
	}
}

// StopWatching stops the timers, and waits for calls in progress until ctx ends.
func (h *Home) StopWatching(ctx context.Context) {
	h.idle.Stop(ctx)
	h.reclaim.Stop(ctx)
	h.windows.Stop(ctx)
}

// Expire deletes the series whose TTL has passed at the time now.
func (h *Home) Expire(ctx context.Context, now time.Time) {
	var families []*Family
	for _, f := range h.Families() {
		if f.TTL > 0 {
			families = append(families, f)
		}
	}
	if len(families) == 0 {
		return
	}
	b := h.Current()
	if err := b.Sync(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, backend.ErrClosed) {
			return
		}
		h.Log.Log(slog.LevelWarn, "sweep", "the backend cannot be read; series expire by the values that were read last", "error", err)
	}
	defer b.Enter()()
	groups := b.Walk()
	var joiner index.Joiner
	for _, f := range families {
		// Drops the instruments of series that other processes have deleted.
		f.dropDeleted()
		schema := f.Def.Schema()
		groups := index.Named(groups, f.Def.Name)
		for i := range groups {
			if groups[i].Family.Schema() == schema {
				idle, lost := f.findIdle(joiner.Join(groups[i], groups), now)
				f.expire(idle)
				for _, labels := range lost {
					b.Cells(f.Def, labels) // tried again at the next sweep
				}
			}
		}
	}
}

// findIdle records which series have changed. It returns those that have been idle for the TTL, and
// pinned ones that another process has deleted, perhaps because it has not pinned them.
func (f *Family) findIdle(g index.Joined, now time.Time) (idle, lost []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	if f.idle == nil {
		f.idle = make(map[string]*idleState)
	}
	f.sweep++
	sweep := f.sweep
	var further []index.Block
	for i, s := range g.Series {
		pause()
		hash, exists := fingerprint(f.Def, &g.Group, i)
		further = g.Blocks(further[:0], s.Labels)
		for i := range further {
			hash = mix(hash, further[i].Family, further[i].Words)
		}
		switch {
		case f.pinned[s.Labels]:
			if !exists {
				lost = append(lost, s.Labels)
			}
			continue
		case !exists || !f.Owns(s.Labels):
			continue
		}
		st := f.idle[s.Labels]
		if st == nil || st.hash != hash || inProgress(f.Def, &g.Group, i) {
			st = &idleState{hash: hash, since: now}
			f.idle[s.Labels] = st
		}
		st.sweep = max(st.sweep, sweep)
		if now.Sub(st.since) >= f.TTL {
			idle = append(idle, s.Labels)
		}
	}
	for labels, st := range f.idle {
		pause()
		if st.sweep < sweep {
			delete(f.idle, labels) // another process has deleted it
		}
	}
	return idle, lost
}

// inProgress reports whether the series is a sum over processes that is not zero. Such a gauge
// counts operations in progress: it is not idle however long they take, and if it were deleted,
// their end would take the sum below zero.
func inProgress(f *backend.Family, g *backend.Group, i int) bool {
	if f.Mode != backend.Sum || g.Parts == nil {
		return false
	}
	v, _ := backend.MergeParts(f.Mode, g.Parts[i].List())
	return v != 0
}

// fingerprint hashes the words of the series that updates change, without its auxiliary blocks.
func fingerprint(f *backend.Family, g *backend.Group, i int) (hash uint64, exists bool) {
	if g.Parts == nil {
		words := g.Series[i].Words
		return mix(hash, f, words), !f.Sealed(words)
	}
	for _, p := range g.Parts[i].List() {
		exists = exists || !f.Sealed(p.Words)
		hash = mix(hash, f, p.Words)
	}
	return hash, exists
}

func mix(hash uint64, f *backend.Family, w backend.Words) uint64 {
	for i := range w {
		if f.Snapshot(i, len(w)) { // windows advance without updates
			continue
		}
		hash = (hash ^ w[i].Load()) * 0x9e3779b97f4a7c15
		hash ^= hash >> 29
	}
	return hash
}
