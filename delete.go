package gotheus

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// Delete deletes the series of one label set, whose values are given as for With, and reports
// whether there was one. It does so for all processes that share the backend. A kept instrument of
// the series that is used again brings it back, from zero. An update that races with Delete belongs
// to either life of the series.
//
// It panics with an error that wraps ErrLabels if the number of values is wrong or one is not
// UTF-8; see TryDelete. An error of the backend, which then may not have known of the series, is
// logged.
func (v *Vec[M]) Delete(values ...string) bool {
	was, err := v.TryDelete(values...)
	v.fam.deleted(err)
	return was
}

// TryDelete is Delete with an error in place of the panic. The error may also be the backend's,
// which then may not have known of the series.
func (v *Vec[M]) TryDelete(values ...string) (bool, error) {
	if len(values) != len(v.open) {
		return false, v.wrongNumber(values)
	}
	full := v.start()
	for i, at := range v.open {
		full[at] = v.normalizeClone(at, values[i])
	}
	return v.deleteOne(full)
}

// deleteOne deletes the series with these values of all labels in the family's order.
func (v *Vec[M]) deleteOne(full []string) (bool, error) {
	if err := v.checkValues(full); err != nil {
		return false, err
	}
	text := v.table.text.write(full)
	n, err := v.fam.delete(func(labels string) bool { return labels == text })
	return n > 0, err
}

// DeleteMatching deletes all series that have the values in match, whatever their other labels are,
// for all processes that share the backend, and returns how many there were. Of a Vec made by
// Partial, these are those that have the values of Partial, too. Values pass the labels'
// normalisers; defaults do not matter. Instruments and updates are as with Delete.
//
// It panics with an error that wraps ErrLabels if match has names that are not labels of v, or is
// empty: to delete all series there is DeleteAll. With a Vec made by Partial it may be empty. See
// TryDeleteMatching. An error of the backend, which then may not have known of all series, is
// logged.
func (v *Vec[M]) DeleteMatching(match Labels) int {
	n, err := v.TryDeleteMatching(match)
	v.fam.deleted(err)
	return n
}

// TryDeleteMatching is DeleteMatching with an error in place of the panic. The error may also be
// the backend's, which then may not have known of all series.
func (v *Vec[M]) TryDeleteMatching(match Labels) (int, error) {
	if unknown := v.unknown(match); unknown != nil {
		return 0, v.wrong(unknown)
	}
	all := v.matching(match)
	if len(all) == 0 {
		return 0, v.wrong([]string{"nothing to match is given, which would delete all series: use DeleteAll for that"})
	}
	return v.deleteMatching(all)
}

// DeleteAll deletes all series or, of a Vec made by Partial, all that have its values, for all
// processes that share the backend, and returns how many there were. Instruments and updates are as
// with Delete. An error of the backend, which then may not have known of all series, is logged; see
// TryDeleteAll.
func (v *Vec[M]) DeleteAll() int {
	n, err := v.TryDeleteAll()
	v.fam.deleted(err)
	return n
}

// TryDeleteAll is DeleteAll that returns the backend's error.
func (v *Vec[M]) TryDeleteAll() (int, error) { return v.deleteMatching(v.matching(nil)) }

// matching returns match, normalised, and what Partial has given.
func (v *Vec[M]) matching(match Labels) Labels {
	all := Labels{}
	for i, name := range v.names {
		at := v.order[i]
		if value, ok := match[name]; ok {
			all[name] = v.normalizeClone(at, value)
		} else if v.fixed[at].given {
			all[name] = v.fixed[at].value
		}
	}
	return all
}

func (v *Vec[M]) deleteMatching(all Labels) (int, error) {
	return v.fam.delete(func(labels string) bool { return v.fam.owns(labels) && hasLabels(labels, all) })
}

// deleted panics with an error about labels, and logs one of the backend.
func (f *family) deleted(err error) {
	if errors.Is(err, ErrLabels) {
		panic(err)
	}
	if err != nil {
		f.reg.log(slog.LevelWarn, "delete "+f.def.Name, "perhaps not all series could be deleted", "metric", f.def.Name, "error", err)
	}
}

// owns reports whether a series of the family is the registry's: another one may have other
// constant labels.
func (f *family) owns(labels string) bool { return hasLabels(labels, f.constant) }

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

// delete deletes series by their label texts, and forgets the instruments that this process has of
// them. A kept one that is used again is listed again.
func (f *family) delete(match func(labels string) bool) (int, error) {
	b := f.reg.current()
	n, err := f.deleteFrom(b, match)
	for now := f.reg.current(); now != b; now = f.reg.current() { // bound or closed meanwhile
		b = now
		var more int
		more, err = f.deleteFrom(b, match)
		n += more
	}
	f.mu.Lock()
	for labels := range f.idle {
		if match(labels) {
			delete(f.idle, labels) // a new life begins
		}
	}
	for m := range f.all() {
		if s := m.base(); match(s.row.Labels) {
			f.reg.moveMu.Lock()
			if s.spot.Load().home == nil { // not in the backend
				f.def.Seal(s.words())
			}
			f.reg.moveMu.Unlock()
		}
	}
	f.mu.Unlock()
	f.drop(func(s *series) bool { return match(s.row.Labels) })
	return n, err
}

// deleteFrom deletes series of a backend. Their further words go first: if they were left over by
// somebody who is killed in between, they would count in the next life.
func (f *family) deleteFrom(b *binding, match func(labels string) bool) (int, error) {
	var err error
	if !f.def.Parts() {
		if _, remote := b.Backend.(backend.Remote); !remote {
			ctx, cancel := context.WithTimeout(context.Background(), defaultTimeout)
			err = b.Sync(ctx)
			cancel()
		}
		for _, g := range named(b.Walk(), f.def.Name) {
			if g.Family.Aids(f.def) {
				_, more := b.Delete(g.Family, match)
				err = cmp.Or(err, more)
			}
		}
	}
	n, more := b.Delete(f.def, match)
	return n, cmp.Or(more, err)
}

// drop forgets the instruments of those series that do not exist any more, whoever has deleted
// them. It reports whether there were any.
func (f *family) drop(which func(*series) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	some := false
	for m := range f.all() {
		if which(m.base()) && f.dropped(m) {
			some = true
		}
	}
	if !some {
		return false
	}
	f.returned = slices.DeleteFunc(f.returned, func(m instrument) bool { return !m.base().spot.Load().listed })
	f.counted -= f.table.(lister).prune()
	f.full.Store(false) // perhaps
	f.age.Add(1)
	return true
}

// dropped reports whether a series does not exist any more. Its instrument, which somebody may have
// kept, gets sealed words of its own: its next update must come here, even if another instrument
// has brought the series back, so that it is listed and moves along with the registry.
func (f *family) dropped(m instrument) bool {
	r, s := f.reg, m.base()
	r.moveMu.Lock()
	defer r.moveMu.Unlock()
	if !f.def.Sealed(s.words()) {
		return false
	}
	words := make(backend.Words, f.def.Words())
	f.def.Seal(words)
	f.put(m, spot{waiting: s.spot.Load().waiting}, words, nil)
	return true
}

func (t *table[M]) each(yield func(instrument) bool) bool {
	p := t.slots.Load()
	if p == nil {
		return true
	}
	for i := range *p {
		if e := (*p)[i].Load(); e != nil && !yield(any(&e.m).(instrument)) {
			return false
		}
	}
	return true
}

// prune makes the table anew. The family's lock is held.
func (t *table[M]) prune() (counted int64) {
	p := t.slots.Load()
	if p == nil {
		return 0
	}
	fresh := &table[M]{text: t.text}
	for i := range *p {
		e := (*p)[i].Load()
		switch {
		case e == nil:
		case any(&e.m).(instrument).base().spot.Load().listed:
			fresh.add(e)
		case t.free[e]:
			delete(t.free, e)
		default:
			counted++
		}
	}
	if e := t.overflow.Load(); e != nil && !any(&e.m).(instrument).base().spot.Load().listed {
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
