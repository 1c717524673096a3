package gotheus

import (
	"errors"
	"log/slog"

	"github.com/gotheus/gotheus/backend"
)

// Delete deletes all series that have the values in match, and those that Partial has given; an empty match
// means all series. Values pass the labels' normalisers; defaults do not matter. It does so for all
// processes that share the backend, and returns how many there were. A kept instrument of a deleted series
// that is used again brings it back, from zero. An update that races with Delete belongs to either life of
// the series.
//
// It panics with an error that wraps ErrLabels if match has names that are not labels of v; see TryDelete.
// An error of the backend, which then may not have known of all series, is logged.
func (v *Vec[M]) Delete(match Labels) int {
	n, err := v.TryDelete(match)
	if errors.Is(err, ErrLabels) {
		panic(err)
	}
	if err != nil {
		v.fam.reg.log(slog.LevelWarn, "delete "+v.fam.def.Name, "perhaps not all series could be deleted", "metric", v.fam.def.Name, "error", err)
	}
	return n
}

// TryDelete is Delete with an error in place of the panic. The error may also be the backend's, which then
// may not have known of all series.
func (v *Vec[M]) TryDelete(match Labels) (int, error) {
	if unknown := v.unknown(match); unknown != nil {
		return 0, v.wrong(unknown)
	}
	all := Labels{}
	for i, name := range v.names {
		at := v.order[i]
		if value, ok := match[name]; ok {
			all[name] = v.normalizeClone(at, value)
		} else if v.fixed[at].given {
			all[name] = v.fixed[at].value
		}
	}
	return v.fam.delete(func(labels string) bool { return v.fam.owns(labels) && hasLabels(labels, all) })
}

// owns reports whether a series of the family is the registry's: another one may have other constant labels.
func (f *family) owns(labels string) bool { return hasLabels(labels, f.reg.opts.Labels) }

// hasLabels reports whether a label text has all of these labels.
func hasLabels(text string, labels Labels) bool {
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

// delete deletes series by their label texts, and forgets the instruments that this process has of them. A
// kept one that is used again is listed again.
func (f *family) delete(match func(labels string) bool) (int, error) {
	b := f.reg.current()
	n, err := b.Delete(f.def, match)
	for now := f.reg.current(); now != b; now = f.reg.current() { // bound or closed meanwhile
		b = now
		var more int
		more, err = b.Delete(f.def, match)
		n += more
	}
	f.mu.Lock()
	for labels := range f.idle {
		if match(labels) {
			delete(f.idle, labels) // a new life begins
		}
	}
	for _, m := range f.series {
		if s := m.base(); match(s.labels) {
			f.reg.moveMu.Lock()
			if s.home == nil { // not in the backend
				f.def.Seal(s.words)
			}
			f.reg.moveMu.Unlock()
		}
	}
	f.mu.Unlock()
	f.drop(func(s *series) bool { return match(s.labels) })
	return n, err
}

// drop forgets the instruments of those series that do not exist any more, whoever has deleted them. It
// reports whether there were any.
func (f *family) drop(which func(*series) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.series[:0:0]
	for _, m := range f.series {
		if s := m.base(); which(s) && f.dropped(m) {
			s.listed = false
		} else {
			kept = append(kept, m)
		}
	}
	if len(kept) == len(f.series) {
		return false
	}
	f.series = kept
	f.counted -= f.table.(pruner).prune()
	f.full.Store(false) // perhaps
	f.age.Add(1)
	return true
}

// dropped reports whether a series does not exist any more. Its instrument, which somebody may have kept, gets
// sealed words of its own: its next update must come here, even if another instrument has brought the
// series back, so that it is listed and moves along with the registry.
func (f *family) dropped(m instrument) bool {
	r, s := f.reg, m.base()
	r.moveMu.Lock()
	defer r.moveMu.Unlock()
	if !f.def.Sealed(s.words) {
		return false
	}
	words := make(backend.Words, f.def.Words())
	f.def.Seal(words)
	m.move(words, nil)
	s.words, s.home = words, nil
	return true
}

// pruner is a table of whatever instrument.
type pruner interface{ prune() (counted int64) }

// prune makes the table anew without the series that are no longer listed, and returns how many of these
// counted for the family's limit. The family's lock is held.
func (t *table[M]) prune() (counted int64) {
	p := t.slots.Load()
	if p == nil {
		return 0
	}
	fresh := new(table[M])
	for i := range *p {
		e := (*p)[i].entry.Load()
		switch {
		case e == nil:
		case any(&e.m).(instrument).base().listed:
			fresh.add(e)
		case e.counts:
			counted++
		}
	}
	if e := t.overflow.Load(); e != nil && !any(&e.m).(instrument).base().listed {
		t.overflow.Store(nil)
	}
	t.n.Store(fresh.n.Load())
	t.slots.Store(fresh.slots.Load())
	return counted
}

// expire deletes the series of f that have been idle for too long.
func (f *family) expire(labels map[string]bool) {
	if _, err := f.delete(func(l string) bool { return labels[l] }); err != nil {
		f.reg.log(slog.LevelWarn, "expire "+f.def.Name, "series could not be removed after their time to live", "metric", f.def.Name, "error", err)
	}
}
