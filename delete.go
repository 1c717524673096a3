package gotheus

import (
	"log/slog"

	"github.com/gotheus/gotheus/backend"
)

// Delete deletes all series that have the values in match, and those that Partial has given; an empty match
// means all series. Values pass the labels' normalisers; defaults do not matter. It does so for all processes that share the backend, and returns how many there were. A kept instrument of a
// deleted series that is used again brings it back, from zero. An update that races with Delete belongs to
// either life of the series.
//
// It panics with an error that wraps ErrLabels if match has names that are not labels of v; see TryDelete.
func (v *Vec[M]) Delete(match Labels) int { return Must(v.TryDelete(match)) }

// TryDelete is Delete with an error in place of the panic. The error may also be the backend's, which then
// may not have known of all series.
func (v *Vec[M]) TryDelete(match Labels) (int, error) {
	if unknown := v.unknown(match); unknown != nil {
		return 0, v.wrong(unknown)
	}
	all := Labels{}
	for name, value := range v.fam.reg.opts.Labels {
		all[name] = value // other registries' series are not ours
	}
	for i, name := range v.names {
		at := v.order[i]
		if value, ok := match[name]; ok {
			all[name] = v.normalizeClone(at, value)
		} else if v.fixed[at].given {
			all[name] = v.fixed[at].value
		}
	}
	return v.fam.delete(func(labels string) bool {
		found := 0
		for name, value := range backend.ParseLabels(labels) {
			if want, ok := all[name]; ok {
				if want != value {
					return false
				}
				found++
			}
		}
		return found == len(all)
	})
}

// delete deletes series by their label texts, and forgets the instruments that this process has of them. A
// kept one that is used again is listed again.
func (f *family) delete(match func(labels string) bool) (int, error) {
	n, err := f.reg.current().Delete(f.def, match)
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.series[:0:0]
	for _, m := range f.series {
		if s := m.base(); match(s.labels) && f.dropped(s) {
			s.listed = false
		} else {
			kept = append(kept, m)
		}
	}
	f.series = kept
	f.counted -= f.table.(pruner).prune()
	f.full.Store(false) // perhaps
	f.age.Add(1)
	return n, err
}

// dropped reports whether a series does not exist any more. What counts in private words is deleted here.
func (f *family) dropped(s *series) bool {
	r := f.reg
	r.moveMu.Lock()
	defer r.moveMu.Unlock()
	if s.home == nil {
		f.def.Seal(s.words)
	}
	return f.def.Sealed(s.words)
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
