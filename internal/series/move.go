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

// OwnPrefix begins the names of the library's own families and is reserved for them.
const OwnPrefix = "gotheus_"

// MoveAll moves all series to another backend. It publishes the backend before it lists the series
// of each family: a series is either made in the new backend, or it is in its family's list by the
// time that MoveAll gets the family's lock, and moves with the others. Log lines wait for
// h.Log.Release.
func (h *Home) MoveAll(to *Binding) {
	h.Log.Hold()
	h.Current()
	to.learn()
	h.Moves.Lock()
	h.bound.Store(to)
	h.Moves.Unlock()
	families := h.Families()
	// The library's own families come first: if there is no room for all, they must be able to
	// say so.
	slices.SortStableFunc(families, func(a, b *Family) int { return cmp.Compare(b.rank(), a.rank()) })
	for _, f := range families {
		var list []Instrument
		f.Declare()
		f.mu.Lock()
		f.shared = nil // it would keep the old backend and all its words in memory
		f.census = census{}
		f.full.Store(nil)
		if !f.table.lockFree() {
			list = slices.Collect(f.all())
		}
		f.mu.Unlock()
		if f.table.lockFree() { // new series do not wait
			list = f.listAll()
		}
		for _, m := range list {
			if err := h.moveToCurrent(m); err != nil {
				f.postpone(err, func() error { return h.moveToCurrent(m) })
				f.logPostponed(err)
			}
		}
	}
}

// rank is 1 for the library's own families and 0 for others.
func (f *Family) rank() int {
	if strings.HasPrefix(f.Def.Name, f.Home.Prefix+OwnPrefix) {
		return 1
	}
	return 0
}

// moveToCurrent moves a series to the backend in use, unless it is there already.
func (h *Home) moveToCurrent(m Instrument) error {
	s := m.Series()
	f := s.Family()
	f.mu.LockLast() // keeps the series from being dropped in the meantime
	defer f.unlock()
	for s.placement.Load().listed {
		b := h.Current()
		words, refused, err := f.cells(b, s.Row.Labels)
		if err != nil {
			s.setWaiting(true) // the caller queues another attempt
			return err
		}
		h.Moves.Lock()
		isCurrent := h.Current() == b // neither bound nor closed in the meantime
		if at := s.placement.Load(); isCurrent && at.backend != b {
			var from backend.Words
			if at.isPrivate() {
				from = s.Words()
			}
			f.put(m, Placement{listed: true, waiting: at.waiting, refused: refused, backend: b, life: at.life}, words, from)
			if refused {
				f.someRefused.Store(true)
			}
		}
		h.Moves.Unlock()
		f.setStart(words)
		if e := m.Exponents(); e != nil {
			e.carry(m)
		}
		if isCurrent {
			break
		}
	}
	s.setWaiting(false)
	return nil
}

// postpone queues try to be called until it succeeds. Until then the family's new series count in
// the heap and are not on any page, since the pages of all processes must agree. postpone may be
// called under any lock; the caller must call logPostponed once it holds none.
func (f *Family) postpone(err error, try func() error) {
	f.Home.Postponed.Add(func(context.Context) error { return try() }, err, retryFirst, retryLast)
}

// logPostponed logs why something of f was postponed.
func (f *Family) logPostponed(err error) {
	cause := "postpone " + f.Def.Name
	if f.rank() > 0 {
		cause = "postpone own" // one line for all of the library's families
	}
	f.Home.Log.Log(slog.LevelWarn, cause,
		"the backend has no room for a series; it is counted in memory and not exposed until there is room",
		"metric", f.Def.Name, "error", err)
}
