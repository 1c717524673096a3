package gotheus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
)

// collectLate runs the collectors other than process collectors once it is known that this process
// leads.
func (p *part) collectLate(ctx context.Context) {
	var omitted error
	switch {
	case len(p.o.Names) == 0:
		p.collected, omitted = p.r.collect(ctx, notPerProcess)
	case !p.o.foundIn(p.binding):
		p.collected, omitted = p.r.collect(ctx, allKinds)
	}
	p.omitted = errors.Join(p.omitted, omitted)
}

// gather runs the backend's Sync and the collectors, concurrently, until p.gatherBy.
func (p *part) gather(ctx context.Context) {
	r, o, b := p.r, p.o, p.binding
	early, cancel := context.WithDeadline(ctx, p.gatherBy)
	defer cancel()
	collect := func(ctx context.Context, which kinds) []*page.Collected {
		collected, omitted := r.collect(ctx, which)
		p.omitted = errors.Join(p.omitted, omitted)
		return collected
	}
	which := allKinds
	if remote := backend.IsRemote(b.Backend); len(o.Names) == 0 && (remote && o.Scope != ScopeOwn || o.Scope == ScopeLeader) {
		// What process collectors store is on the page once Sync has published it. Half of
		// the time is for Sync.
		first, cancel := context.WithDeadline(early, p.deadline.Add(-time.Until(p.deadline)*3/5))
		collect(first, perProcess)
		cancel()
		which = notPerProcess
	}
	synced := make(chan error, 1)
	go func() { synced <- r.sync(early, b, o.Scope) }()
	if len(o.Names) == 0 && o.Scope != ScopeLeader {
		p.collected = collect(early, which)
	}
	select {
	case p.err = <-synced: // before a collector hung
	default:
		select {
		case p.err = <-synced:
		case <-early.Done():
			p.err = r.lateSync(ctx, synced)
		}
	}
	if o.Scope != ScopeLeader && !o.foundIn(b) {
		p.collected = collect(early, allKinds)
	}
}

// lateSync waits for the error of a Sync whose context has ended, for at most a twentieth of the
// time that is left: that error says whether the page would be stale.
func (r *Registry) lateSync(ctx context.Context, synced <-chan error) error {
	left := series.Timeout / 5
	if d, ok := ctx.Deadline(); ok {
		left = time.Until(d)
	}
	timer := time.NewTimer(left / 20)
	defer timer.Stop()
	select {
	case err := <-synced:
		return err
	case <-timer.C:
		// What this process has read may be behind what another page has shown.
		if backend.IsRemote(r.home.Current().Backend) {
			return fmt.Errorf("%w: %w", ErrStale, context.DeadlineExceeded)
		}
		return context.DeadlineExceeded
	}
}

// foundIn reports whether the backend has families for all of o.Names.
func (o *WriteOptions) foundIn(b backend.Backend) bool {
	if len(o.Names) == 0 {
		return true
	}
	return names.Ask(o.Names).AllSelect(o.Format.NameEscaping(), func(yield func(expo.Type, string) bool) {
		for _, g := range b.Walk() {
			if !yield(names.TypeOf(g.Family.Kind), g.Family.Name) {
				return
			}
		}
	})
}
