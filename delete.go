package gotheus

import (
	"errors"
	"log/slog"

	"github.com/gotheus/gotheus/internal/series"
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
		v.fam.Home.Log.Log(slog.LevelWarn, "delete "+v.fam.Def.Name, "perhaps not all series could be deleted", "metric", v.fam.Def.Name, "error", err)
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
	return v.fam.Delete(func(labels string) bool { return v.fam.Owns(labels) && series.HasLabels(labels, all) })
}
