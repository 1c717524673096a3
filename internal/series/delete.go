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

// Timeout limits how long reading a backend may take where the caller sets no limit.
const Timeout = 10 * time.Second

// Owns reports whether a series of the family has f's constant labels: that of another program may
// have others.
func (f *Family) Owns(labels string) bool { return HasLabels(labels, f.Constant) }

// HasLabels reports whether a label text has all of these labels.
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

// Delete deletes series by their label texts, for all processes, and forgets this process's
// instruments for them. An update of a kept instrument brings its series back. Delete returns how
// many series there were; after an error, some may not have been deleted.
func (f *Family) Delete(match func(labels string) bool) (int, error) {
	b := f.Home.Current()
	n, err := f.deleteFrom(b, match)
	for now := f.Home.Current(); now != b; now = f.Home.Current() { // bound or closed meanwhile
		b = now
		var more int
		more, err = f.deleteFrom(b, match)
		n += more
	}
	f.mu.Lock()
	for labels := range f.idle {
		if match(labels) {
			delete(f.idle, labels) // if the series comes back, its time begins anew
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
	f.drop(func(s *Series) bool { return match(s.Row.Labels) })
	return n, err
}

// deleteFrom deletes series from a backend. Their auxiliary series go first: if this process were
// killed in between, leftover ones would count when the series comes back.
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

// drop forgets the instruments of series that no longer exist, whichever process deleted them. It
// reports whether there were any.
func (f *Family) drop(which func(*Series) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	some := false
	for m := range f.all() {
		if which(m.Series()) && f.dropped(m) {
			some = true
		}
	}
	if !some {
		return false
	}
	f.returned = slices.DeleteFunc(f.returned, func(m Instrument) bool { return !m.Series().placement.Load().listed })
	f.counted -= f.table.prune()
	f.full.Store(false) // perhaps
	f.age.Add(1)
	return true
}

// dropped reports whether a series no longer exists. If so, its instrument, which code may have
// kept, gets private sealed words: its next update must call Escape, even if another instrument has
// brought the series back meanwhile, so that the instrument is listed and moves with the registry.
func (f *Family) dropped(m Instrument) bool {
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

// expire deletes the series of f that have been idle for too long.
func (f *Family) expire(labels map[string]bool) {
	if _, err := f.Delete(func(l string) bool { return labels[l] }); err != nil {
		f.Home.Log.Log(slog.LevelWarn, "expire "+f.Def.Name, "series could not be deleted after their time to live", "metric", f.Def.Name, "error", err)
	}
}
