package gotheus

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// Scope says which processes a page covers. It matters where processes share a backend and several
// of them are scraped as separate targets: with the total on each page, the sum over the targets
// would be a multiple of it.
type Scope uint8

const (
	// ScopeAll is the total of all processes, on every page. It suits a single address behind
	// which any process may answer, and a process that exports for all.
	ScopeAll Scope = iota
	// ScopeOwn is what this process itself has counted since it was bound, as without a
	// backend: the sum over all targets is what the live processes have counted. Counts of dead
	// processes are on no page. The page does not wait for the backend. Stores support this
	// scope; shared memory does not, since it keeps one value for all processes.
	ScopeOwn
	// ScopeLeader is the total on the page of one process, the leader. All pages, including the
	// leader's, show metrics of ModePerProcess for the process itself, without the label
	// "process"; the others show nothing else. So the sum over all targets is the total. Of the
	// live processes that are scraped with this scope, the leader is the one that was scraped
	// first. Each page determines the leader from the same data that it shows. If the backend
	// cannot be read, there is no page, even where pages of other scopes would show what is
	// known.
	//
	// There is one leader at any moment. When it changes within a round of scrapes, the round
	// can have the total twice, or not at all.
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

// ErrScope is wrapped by the error of a page whose scope the backend does not support. Nothing was
// written.
var ErrScope = errors.New("gotheus: the backend does not support this scope")

const (
	leaderName = "gotheus_leader"
	leaderHelp = "Whether this page, of ScopeLeader, shows the total of all processes."
)

// narrow removes the groups that this process does not show with ScopeLeader. Parts of other
// processes are left out when the page is encoded.
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

// ownGroups returns the groups for ScopeOwn.
func (r *Registry) ownGroups(b *series.Binding) ([]backend.Group, error) {
	if b.Local {
		return b.Walk(), nil
	}
	if o, ok := b.Backend.(backend.Owner); ok {
		return o.WalkOwn(), nil
	}
	err := fmt.Errorf("%w: %v: shared memory keeps one value for all processes", ErrScope, ScopeOwn)
	r.home.Log.Log(slog.LevelError, "scope", "the backend does not support this scope; use ScopeAll or ScopeLeader", "error", err)
	return nil, err
}
