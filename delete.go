package gotheus

import (
	"errors"
	"log/slog"

	"github.com/gotheus/gotheus/internal/series"
)

// Delete deletes the series of one label set, with values as for With, and reports whether there
// was one. It does so for all processes that share the backend. The next update of an instrument
// that was kept brings the series back, from zero. An update that races with Delete may count
// before or after it.
//
// It panics with an error that wraps ErrLabels if the number of values is wrong; see TryDelete. An
// error of the backend is logged; the series may then still exist.
func (v *Vec[M]) Delete(values ...string) bool {
	was, err := v.TryDelete(values...)
	deleted(v.fam, err)
	return was
}

// TryDelete is like Delete, but returns the error instead of panicking. It also returns an error of
// the backend, after which the series may still exist.
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

// deleteOne deletes the series with these values, one for each label, in the family's order.
func (v *Vec[M]) deleteOne(full []string) (bool, error) {
	return v.fam.DeleteSeries(v.fam.LabelText(v.fam.Repair(full)))
}

// DeleteMatching deletes all series that have the label values in match, whatever their other
// labels, for all processes that share the backend, and returns how many there were. On a Vec made
// by Partial, series must have the values passed there, too. Values go through the labels'
// normalisers; defaults do not matter. Kept instruments and concurrent updates behave as with
// Delete.
//
// It panics with an error that wraps ErrLabels if match has names that are not labels of v, or is
// empty, which it may be only on a Vec made by Partial: use DeleteAll to delete all series. See
// TryDeleteMatching. An error of the backend is logged; some series may then still exist.
func (v *Vec[M]) DeleteMatching(match Labels) int {
	n, err := v.TryDeleteMatching(match)
	deleted(v.fam, err)
	return n
}

// TryDeleteMatching is like DeleteMatching, but returns the error instead of panicking. It also
// returns an error of the backend, after which some series may still exist.
func (v *Vec[M]) TryDeleteMatching(match Labels) (int, error) {
	if unknown := v.unknown(match); unknown != nil {
		return 0, v.wrong(unknown)
	}
	all := v.matching(match)
	if len(all) == 0 {
		return 0, v.wrong([]string{"the match is empty, which would delete all series: use DeleteAll for that"})
	}
	return v.deleteMatching(all)
}

// DeleteAll deletes all series, or on a Vec made by Partial all that have the values passed there,
// for all processes that share the backend, and returns how many there were. Kept instruments and
// concurrent updates behave as with Delete. An error of the backend is logged, and some series may
// then still exist; see TryDeleteAll.
func (v *Vec[M]) DeleteAll() int {
	n, err := v.TryDeleteAll()
	deleted(v.fam, err)
	return n
}

// TryDeleteAll is like DeleteAll, but returns an error of the backend.
func (v *Vec[M]) TryDeleteAll() (int, error) { return v.deleteMatching(v.matching(nil)) }

// matching returns match, with values as look-ups have them, and the values from Partial added.
func (v *Vec[M]) matching(match Labels) Labels {
	all := Labels{}
	for i, name := range v.names {
		at := v.order[i]
		if value, ok := match[name]; ok {
			all[name] = v.fam.RepairValue(at, v.normalizeClone(at, value))
		} else if v.fixed[at].partial {
			all[name] = v.fixed[at].value
		}
	}
	return all
}

func (v *Vec[M]) deleteMatching(all Labels) (int, error) {
	if len(all) == len(v.names) {
		full := make([]string, len(v.names))
		for i, name := range v.names {
			full[v.order[i]] = all[name]
		}
		was, err := v.fam.DeleteSeries(v.fam.LabelText(full))
		if was {
			return 1, err
		}
		return 0, err
	}
	return v.fam.Delete(func(labels string) bool { return v.fam.Owns(labels) && series.HasLabels(labels, all) })
}

// deleted panics with an error about labels, and logs an error of the backend.
func deleted(f *series.Family, err error) {
	if errors.Is(err, ErrLabels) {
		panic(err)
	}
	if err != nil {
		f.Home.Log.Log(slog.LevelWarn, "delete "+f.Def.Name, "the backend failed; some series may not have been deleted", "metric", f.Def.Name, "error", err)
	}
}
