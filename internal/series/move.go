package series

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

const retryFirst, retryLast = 5 * time.Millisecond, 5 * time.Second

// OwnPrefix begins the names of the library's own families, and is reserved for them.
const OwnPrefix = "gotheus_"

// MoveAll moves all families and series to another backend. New series go there from the start. A
// series that is being created in the old backend meanwhile is listed before its family's lock is
// released, so it moves, too. Log lines wait for h.Log.Release.
func (h *Home) MoveAll(to *Binding) {
	h.Log.Hold()
	h.Current()
	h.Moves.Lock()
	h.bound.Store(to)
	h.Moves.Unlock()
	families := h.Families()
	// The library's own families first: if there is not room for all, these report it.
	slices.SortStableFunc(families, func(a, b *Family) int { return cmp.Compare(b.rank(), a.rank()) })
	for _, f := range families {
		f.Declare()
		f.mu.Lock()
		f.usual = nil // it would keep the old backend and its contents alive
		list := slices.Collect(f.all())
		f.mu.Unlock()
		for _, m := range list {
			if err := h.settle(m); err != nil {
				f.postpone(err, func() error { return h.settle(m) })
				f.logPostponed(err)
			}
		}
	}
}

// rank is 1 for the library's own families.
func (f *Family) rank() int {
	if strings.HasPrefix(f.Def.Name, f.Home.Prefix+OwnPrefix) {
		return 1
	}
	return 0
}

// settle moves a series to the backend in use, unless it is there.
func (h *Home) settle(m Instrument) error {
	s := m.Series()
	f := s.Family()
	f.mu.Lock() // keeps it from being deleted meanwhile
	defer f.unlock()
	for s.placement.Load().listed {
		b := h.Current()
		words, refused, err := f.cells(b, s.Row.Labels)
		if err != nil {
			s.setWaiting(true) // the caller postpones it
			return err
		}
		h.Moves.Lock()
		settled := h.Current() == b // neither bound nor closed meanwhile
		if at := s.placement.Load(); settled && at.backend != b {
			var from backend.Words
			if at.isPrivate() {
				from = s.Words()
			}
			f.put(m, Placement{listed: true, waiting: at.waiting, refused: refused, backend: b}, words, from)
		}
		h.Moves.Unlock()
		f.setStart(words)
		if e := m.Exponents(); e != nil {
			e.carry(m)
		}
		if settled {
			break
		}
	}
	s.setWaiting(false)
	return nil
}

// postpone retries try until it succeeds. Until then, the series counts in the heap and is on no
// page, since pages of different processes must agree. It may be called with any lock held; the
// caller calls logPostponed when it holds none.
func (f *Family) postpone(err error, try func() error) {
	f.Home.Postponed.Add(func(context.Context) error { return try() }, err, retryFirst, retryLast)
}

// logPostponed logs why something of f was postponed.
func (f *Family) logPostponed(err error) {
	cause := "postpone " + f.Def.Name
	if f.rank() > 0 {
		cause = "postpone own" // one line for all of them
	}
	f.Home.Log.Log(slog.LevelWarn, cause,
		"the backend has no room for a series; it counts in the heap, on no page, until there is room",
		"metric", f.Def.Name, "error", err)
}
