package gotheus

import (
	"errors"
	"log/slog"

	"github.com/gotheus/gotheus/internal/series"
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
	deleted(v.fam, err)
	return was
}

// TryDelete is Delete with an error in place of the panic. The error may also be the backend's,
// which then may not have known of the series.
func (v *Vec[M]) TryDelete(values ...string) (bool, error) {
	if len(values) != len(v.open) {
		return false, v.wrongNumber(values)
	}
	full := v.fixedValues()
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
	text := v.fam.LabelText(full)
	n, err := v.fam.Delete(func(labels string) bool { return labels == text })
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
	deleted(v.fam, err)
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
	deleted(v.fam, err)
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
		} else if v.fixed[at].partial {
			all[name] = v.fixed[at].value
		}
	}
	return all
}

func (v *Vec[M]) deleteMatching(all Labels) (int, error) {
	return v.fam.Delete(func(labels string) bool { return v.fam.Owns(labels) && series.HasLabels(labels, all) })
}

// deleted panics with an error about labels, and logs one of the backend.
func deleted(f *series.Family, err error) {
	if errors.Is(err, ErrLabels) {
		panic(err)
	}
	if err != nil {
		f.Home.Log.Log(slog.LevelWarn, "delete "+f.Def.Name, "perhaps not all series could be deleted", "metric", f.Def.Name, "error", err)
	}
}
