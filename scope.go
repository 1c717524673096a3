package gotheus

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// Scope says whose counts a page shows. It matters where processes share a backend and several of
// them are scraped as targets of their own: each page being the total, their sum would be a
// multiple of it.
type Scope uint8

const (
	// ScopeAll is the total of all processes, on every page. It is for one address behind which
	// any process answers, and for a process that exports for all.
	ScopeAll Scope = iota
	// ScopeOwn is what this process has counted itself since it was bound, as without a
	// backend: the sum over all targets is what the live processes have counted. What the dead
	// have counted is on no page. It does not wait for the backend. Only backends that
	// implement [backend.Owner] know it; shared memory does not, since all processes count in
	// the same words.
	ScopeOwn
	// ScopeLeader is the total on the page of one process, and on the pages of all nothing but
	// what is each process's own: metrics of ModePerProcess, without the label "process". So
	// the sum over all targets is the total. The leader is, of the live processes that are
	// scraped with this scope, the one that was first. It is found anew for each page, from the
	// same reading of the backend as the page itself. There is no page if the backend cannot be
	// read, also where other pages would show what is known.
	//
	// At any moment there is one leader. When it changes, pages that are made before and after,
	// within one round of scrapes, can both be the total, or neither of them.
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

// ErrScope is wrapped by the error of a page with a scope that the backend does not know. Nothing
// was written.
var ErrScope = errors.New("gotheus: the backend has no pages of this scope")

const (
	leaderName = "gotheus_leader"
	leaderHelp = "Whether this page, of the scope Leader, is the total of all processes."
)

// narrow leaves out of groups what this process does not show in the scope Leader. Parts of other
// processes are left out while the page is encoded.
func (p *part) narrow(groups []backend.Group) ([]backend.Group, error) {
	leads := true
	if !p.binding.Local {
		var err error
		if leads, p.source.Only, err = p.r.leader.Leads(groups); err != nil {
			return nil, err
		}
	}
	p.follows = !leads
	if leads {
		return groups, nil
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g backend.Group) bool { return g.Family.Mode != backend.PerInstance }), nil
}

// ownGroups returns what this process has counted.
func (r *Registry) ownGroups(b *series.Binding) ([]backend.Group, error) {
	if b.Local {
		return b.Walk(), nil
	}
	if o, ok := b.Backend.(backend.Owner); ok {
		return o.WalkOwn(), nil
	}
	err := fmt.Errorf("%w: %v: in %T, all processes count in the same words", ErrScope, ScopeOwn, b.Backend)
	r.home.Log.Log(slog.LevelError, "scope", "a page with this scope cannot be made; use All, or Leader", "error", err)
	return nil, err
}
