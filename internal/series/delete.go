package series

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
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

// DeleteSeries deletes the series with this label text, for all processes, and drops this process's
// instruments for it. It reports whether there was one; an error means that there may still be one.
// The time that it takes does not depend on how many series there are.
func (f *Family) DeleteSeries(labels string) (was bool, err error) {
	f.deleteFrom(func(b *Binding) {
		f.mu.Lock()
		was = f.dropSeries(labels) || was // before it moves to b
		f.mu.Unlock()
		one, more := f.deleteSeriesFrom(b, labels)
		was, err = was || one, more
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.census.spent = 0 // there may be room now
	return f.dropSeries(labels) || was, err
}

// Delete deletes the series whose label texts match, for all processes, and drops this process's
// instruments for them. A retained instrument that is used again brings its series back. Delete
// returns the number of series deleted; an error means that the backend may have missed some. It
// looks at all series, but only takes the lock for short stretches.
func (f *Family) Delete(match func(labels string) bool) (n int, err error) {
	f.deleteFrom(func(b *Binding) {
		// before they move to b
		f.dropMatching(func(s *Series) bool { return s.placement.Load().backend != b && match(s.Row.Labels) })
		var more int
		more, err = f.deleteMatchingFrom(b, match)
		n += more
	})
	f.dropMatching(func(s *Series) bool { return match(s.Row.Labels) })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.census.spent = 0 // there may be room now
	pause := f.pauses()
	for labels := range f.idle {
		if match(labels) {
			delete(f.idle, labels)
		}
		pause()
	}
	return n, err
}

// dropMatching calls dropSeries for the selected series of this process, see labels.
func (f *Family) dropMatching(which func(*Series) bool) {
	matching := f.labels(which)
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	for _, labels := range matching {
		f.dropSeries(labels)
		pause()
	}
}

// deleteFrom calls del with the backend in use, and again if the registry has meanwhile been bound
// or closed. A series of this process may have yet to move to that backend. It would be there once
// del has found nothing, so del first drops what is not there yet.
func (f *Family) deleteFrom(del func(*Binding)) {
	b := f.Home.Current()
	del(b)
	for now := f.Home.Current(); now != b; now = f.Home.Current() {
		b = now
		del(b)
	}
}

// deleteSeriesFrom deletes a series from a backend. Its blocks in auxiliary families come first: if
// the process is killed in between, blocks that outlived their series would count again when the
// series comes back.
func (f *Family) deleteSeriesFrom(b *Binding, labels string) (was bool, err error) {
	if !f.Def.Parts() {
		for _, aid := range f.aids(b) {
			_, failed := b.DeleteSeries(aid, labels)
			err = cmp.Or(err, failed)
		}
	}
	was, failed := b.DeleteSeries(f.Def, labels)
	return was, cmp.Or(failed, err, f.deleteLeft(b, labels))
}

// deleteLeft deletes blocks of buckets that a series has left that was deleted: an update may have
// made one after others were deleted, before it could notice. If the series has come back, its
// blocks stay. It is there before they are, so a block must be looked for first.
func (f *Family) deleteLeft(b *Binding, labels string) (err error) {
	if f.scale == nil {
		return nil
	}
	for _, aid := range f.aids(b) {
		if aid.Block.Role == backend.BucketRole && b.Exists(aid, labels) && !b.Exists(f.Def, labels) {
			_, failed := b.DeleteSeries(aid, labels)
			err = cmp.Or(err, failed)
		}
	}
	return err
}

// aids returns the auxiliary families of f that a backend may have: those that it knows and, if
// other processes may have made more of them since it was last read, all that this version makes.
func (f *Family) aids(b *Binding) []*backend.Family {
	known := b.Aids(f.Def)
	if b.Local || backend.IsRemote(b.Backend) {
		return known
	}
	f.mu.Lock()
	all := slices.Clone(f.levels)
	if f.Def.Kind == backend.Counter || f.Def.Kind == backend.Histogram {
		for class := range exemplarSizes {
			all = append(all, f.exemplarFamily(class))
		}
	}
	f.mu.Unlock()
	for _, aid := range known {
		if !slices.ContainsFunc(all, func(a *backend.Family) bool { return a.Block == aid.Block }) {
			all = append(all, aid) // of another version
		}
	}
	return all
}

// deleteMatchingFrom is deleteSeriesFrom for all series that match.
func (f *Family) deleteMatchingFrom(b *Binding, match func(labels string) bool) (n int, err error) {
	if !f.Def.Parts() {
		if !backend.IsRemote(b.Backend) {
			ctx, cancel := context.WithTimeout(context.Background(), Timeout)
			err = b.Sync(ctx)
			cancel()
		}
		for _, aid := range b.Aids(f.Def) {
			_, failed := b.Delete(aid, match)
			err = cmp.Or(err, failed)
		}
	}
	var matching []string
	n, failed := b.Delete(f.Def, func(labels string) bool {
		if !match(labels) {
			return false
		}
		if f.scale != nil {
			matching = append(matching, labels)
		}
		return true
	})
	err = cmp.Or(failed, err)
	for _, labels := range matching {
		err = cmp.Or(err, f.deleteLeft(b, labels))
	}
	return n, err
}

// labels returns the label texts of the selected series of this process. A text may be returned
// more than once. It calls which without the family's lock, if that is possible, or with it for
// short stretches, so a series may move or be deleted at the same time.
func (f *Family) labels(which func(*Series) bool) (list []string) {
	collect := func(m Instrument) bool {
		if s := m.Series(); which(s) {
			list = append(list, s.Row.Labels)
		}
		return true
	}
	if f.table.lockFree() {
		f.table.each(collect)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	if !f.table.lockFree() {
		f.table.each(func(m Instrument) bool {
			defer pause()
			return collect(m)
		})
	}
	for _, instruments := range f.returned {
		for _, m := range instruments {
			collect(m)
		}
		pause()
	}
	return list
}

// pauses returns a function that loops call in each round while they hold f.mu. From time to time
// it lets others have the lock. A map may change while a loop ranges over it.
func (f *Family) pauses() func() {
	n := 0
	return func() {
		if n++; n%stretch == 0 {
			f.mu.Unlock()
			f.mu.LockLast()
		}
	}
}

const stretch = 128 // rounds of a loop that holds a family's lock

// dropSeries drops the instruments of the series with this label text if it was deleted. It first
// deletes what is in no backend, or has yet to move from this process's memory to the backend in
// use, and reports whether there was such a series. The caller holds f.mu.
func (f *Family) dropSeries(labels string) (was bool) {
	delete(f.idle, labels) // if the series comes back, its TTL starts over
	f.eachOf(labels, func(m Instrument) {
		f.Home.Moves.Lock()
		s := m.Series()
		if at := s.placement.Load(); at.listed && at.backend != f.Home.Current() && at.isPrivate() {
			was = f.Def.Seal(s.Words()) || was
		}
		refused := s.placement.Load().refused
		f.Home.Moves.Unlock()
		if refused { // there is no series of its own
			f.drop(m)
		} else {
			f.dropIfDeleted(m)
		}
	})
	return was
}

// eachOf calls do with the instruments of the series with this label text: of one in the table and
// those that were deleted and brought back. do may drop them. The caller holds f.mu.
func (f *Family) eachOf(labels string, do func(Instrument)) {
	if m := f.table.find(labels); m != nil {
		do(m)
	}
	for _, m := range slices.Clone(f.returned[labels]) {
		do(m)
	}
}

// dropDeleted drops the instruments of series that this or another process has deleted. It reports
// whether there were any.
func (f *Family) dropDeleted() (some bool) {
	deleted := f.labels(func(s *Series) bool { return f.Def.Sealed(s.Words()) })
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	for _, labels := range deleted {
		f.eachOf(labels, func(m Instrument) { some = f.dropIfDeleted(m) || some })
		pause()
	}
	return some
}

// dropIfDeleted drops m if its series was deleted. The caller holds f.mu.
func (f *Family) dropIfDeleted(m Instrument) bool {
	f.Home.Moves.Lock()
	deleted := f.Def.Sealed(m.Series().Words())
	f.Home.Moves.Unlock()
	if deleted {
		f.drop(m)
	}
	return deleted
}

// drop drops m. Callers may have retained it. It therefore gets sealed words of its own: its next
// update must go through Escape even if another instrument has brought the series back, so that it
// is listed and moves along with the registry. The caller holds f.mu.
func (f *Family) drop(m Instrument) {
	s := m.Series()
	words := make(backend.Words, f.Def.Words())
	f.Def.Seal(words)
	f.Home.Moves.Lock()
	held := holdDropped(m)
	f.put(m, Placement{waiting: s.placement.Load().waiting, dropped: held, life: noPlaces}, words, nil)
	f.Home.Moves.Unlock()
	labels := s.Row.Labels
	if list := f.returned[labels]; !slices.Contains(list, m) {
		if weight := f.table.remove(m); weight > 0 {
			f.counted -= weight
			f.full.Store(nil) // there may be room now; the next look-up finds out
		}
	} else if len(list) == 1 {
		delete(f.returned, labels)
	} else {
		f.returned[labels] = slices.DeleteFunc(list, func(other Instrument) bool { return other == m })
	}
	f.age.Add(1)
}

// expire deletes these series of f, which have been idle for the TTL.
func (f *Family) expire(labels []string) {
	var err error
	for _, l := range labels {
		_, failed := f.DeleteSeries(l)
		err = cmp.Or(err, failed)
	}
	if err != nil {
		f.Home.Log.Log(slog.LevelWarn, "expire "+f.Def.Name, "series could not be removed after their TTL", "metric", f.Def.Name, "error", err)
	}
}
