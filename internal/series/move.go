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

// OwnPrefix is reserved for the library's own families.
const OwnPrefix = "gotheus_"

// MoveAll moves everything to another backend. New series go there from the first instruction on. A
// series that is being made for the old one meanwhile is in its family's list before the family's
// lock is free. Lines for the log wait for h.Log.Release.
func (h *Home) MoveAll(to *Binding) {
	h.Log.Hold()
	h.Current()
	h.Moves.Lock()
	h.bound.Store(to)
	h.Moves.Unlock()
	families := h.Families()
	// If there is not room for all, at least the families that say so have some.
	slices.SortStableFunc(families, func(a, b *Family) int { return cmp.Compare(b.rank(), a.rank()) })
	for _, f := range families {
		f.Declare()
		f.mu.Lock()
		f.usual = nil // it would keep the backend that is left, with all that is in it
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

// settle moves a series to the backend in use, if it is not there.
func (h *Home) settle(m Instrument) error {
	s := m.Series()
	f := s.Family()
	f.mu.Lock() // so that it is not deleted meanwhile
	defer f.unlock()
	for s.placement.Load().listed {
		b := h.Current()
		words, refused, err := f.cells(b, s.Row.Labels)
		if err != nil {
			s.setWaiting(true) // the caller has it tried again
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

// postpone has try called again until it succeeds. Until then the family's new series count in the
// heap and are on no page, since pages of different processes must agree. It may be called under
// any lock; logPostponed is to follow when none is held.
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
		"the backend has no room for a series; it counts in the heap, unseen, until there is room",
		"metric", f.Def.Name, "error", err)
}
