package series

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Timeout limits calls to a backend for which the caller gave no context.
const Timeout = 10 * time.Second

// Owns reports whether a series has f's constant labels. Other programs may store series of the
// same family with different ones.
func (f *Family) Owns(labels string) bool { return HasLabels(labels, f.Constant) }

// HasLabels reports whether a label text contains all of these labels.
func HasLabels(text string, labels Labels) bool {
	if len(labels) == 0 {
		return true
	}
	found := 0
	for name, value := range backend.ParseLabels(text) {
		if want, ok := labels[name]; ok {
			if want != value {
				return false
			}
			found++
		}
	}
	return found == len(labels)
}

// Delete deletes the series whose label texts match, for all processes, and drops this process's
// instruments for them. A retained instrument that is used again brings its series back. Delete
// returns the number of series deleted; an error means that the backend may have missed some.
func (f *Family) Delete(match func(labels string) bool) (int, error) {
	b := f.Home.Current()
	n, err := f.deleteFrom(b, match)
	for now := f.Home.Current(); now != b; now = f.Home.Current() {
		b = now // the registry was bound or closed in the meantime
		var more int
		more, err = f.deleteFrom(b, match)
		n += more
	}
	f.mu.Lock()
	f.census.spent = 0 // there may be room now
	for labels := range f.idle {
		if match(labels) {
			delete(f.idle, labels) // if the series comes back, its TTL starts over
		}
	}
	for m := range f.all() {
		if s := m.Series(); match(s.Row.Labels) {
			f.Home.Moves.Lock()
			if s.placement.Load().backend == nil { // not in the backend
				f.Def.Seal(s.Words())
			}
			f.Home.Moves.Unlock()
		}
	}
	f.mu.Unlock()
	f.dropDeleted(func(s *Series) bool { return match(s.Row.Labels) })
	return n, err
}

// deleteFrom deletes series from a backend. Auxiliary families come first: if the process is killed
// in between, blocks that outlived their series would count again when the series comes back.
func (f *Family) deleteFrom(b *Binding, match func(labels string) bool) (int, error) {
	var err error
	if !f.Def.Parts() {
		if !backend.IsRemote(b.Backend) {
			ctx, cancel := context.WithTimeout(context.Background(), Timeout)
			err = b.Sync(ctx)
			cancel()
		}
		for _, g := range index.Named(b.Walk(), f.Def.Name) {
			if g.Family.Aids(f.Def) {
				_, more := b.Delete(g.Family, match)
				err = cmp.Or(err, more)
			}
		}
	}
	n, more := b.Delete(f.Def, match)
	return n, cmp.Or(more, err)
}

// dropDeleted removes the instruments of the selected series that this or another process has
// deleted. It reports whether there were any.
func (f *Family) dropDeleted(which func(*Series) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drop(which)
}

// drop is dropDeleted while f.mu is held.
func (f *Family) drop(which func(*Series) bool) bool {
	some := false
	for m := range f.all() {
		if which(m.Series()) && f.sealIfDeleted(m) {
			some = true
		}
	}
	if !some {
		return false
	}
	f.returned = slices.DeleteFunc(f.returned, func(m Instrument) bool { return !m.Series().placement.Load().listed })
	f.counted -= f.table.prune()
	f.full.Store(nil) // there may be room now; the next look-up finds out
	f.age.Add(1)
	return true
}

// sealIfDeleted reports whether a series was deleted. Callers may have retained its instrument,
// which therefore gets sealed words of its own: its next update must go through Escape even if
// another instrument has brought the series back, so that it is listed and moves along with the
// registry.
func (f *Family) sealIfDeleted(m Instrument) bool {
	s := m.Series()
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	if !f.Def.Sealed(s.Words()) {
		return false
	}
	words := make(backend.Words, f.Def.Words())
	f.Def.Seal(words)
	f.put(m, Placement{waiting: s.placement.Load().waiting}, words, nil)
	return true
}

// expire deletes these series of f, which have been idle for the TTL.
func (f *Family) expire(labels map[string]bool) {
	if _, err := f.Delete(func(l string) bool { return labels[l] }); err != nil {
		f.Home.Log.Log(slog.LevelWarn, "expire "+f.Def.Name, "series could not be removed after their TTL", "metric", f.Def.Name, "error", err)
	}
}
