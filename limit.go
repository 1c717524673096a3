package gotheus

import (
	"cmp"
	"log/slog"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// OverflowValue is the value of all labels of the series that a look-up returns when its family has as
// many series as it may have, see Vec.
const OverflowValue = backend.OverflowValue

const (
	overflowedName = "gotheus_overflowed_lookups_total"
	overflowedHelp = "Look-ups of label values that got the overflow series, by metric."

	defaultMaxSeries = 10000
)

// limit is a family's limit of series from look-ups. Once it is reached, a look-up that finds nothing
// learns so from one atomic load: it may be one of very many, made by somebody who means no good.
type limit struct {
	max     atomic.Int64 // negative: none
	counted int64        // series that look-ups have made; guarded by the family's lock
	full    atomic.Bool  // counted has reached max: no more are made

	overflowed atomic.Pointer[Counter] // nil: not counted
}

func maxSeries(r *Registry, c common, vec bool) int64 {
	most := cmp.Or(c.maxSeries, r.opts.MaxSeries)
	switch {
	case most < 0 || !vec:
		return -1
	case most == 0:
		return defaultMaxSeries
	}
	return int64(most)
}

// reset sets another maximum.
func (l *limit) reset(most int64) {
	l.max.Store(most)
	l.full.Store(false)
}

// startOverflow is called by the first look-ups that find the family full.
func (f *family) startOverflow() {
	r := f.reg
	if f.drop(func(*series) bool { return true }) {
		return // other processes have deleted some
	}
	if !r.opts.NoSelfMetrics && f.def.Name != r.opts.Prefix+overflowedName {
		if vec, err := newOwnVec(r, overflowedName, overflowedHelp); err == nil {
			f.overflowed.Store(vec.With(f.def.Name))
		}
	}
	f.mu.Lock()
	if most := f.max.Load(); most >= 0 && f.counted >= most {
		f.full.Store(true)
	}
	f.mu.Unlock()
	r.log(slog.LevelWarn, "overflow "+f.def.Name, "a family has as many series as it may have; others are counted in one overflow series",
		"metric", f.def.Name, "max", f.max.Load(), "value of its labels", OverflowValue)
}

// overflow returns the overflow series for a look-up, and counts it.
func (v *Vec[M]) overflow() *M {
	if c := v.fam.overflowed.Load(); c != nil {
		c.Inc()
	}
	if e := v.table.overflow.Load(); e != nil {
		return &e.m
	}
	return v.makeOverflow()
}

func overflowValues(n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = OverflowValue
	}
	return values
}

// overflowLabels returns the label text of the family's overflow series.
func (f *family) overflowLabels() string {
	return planText(f.def.Labels, f.constant).write(overflowValues(len(f.open)))
}

// refused counts and logs that a new series counts in the overflow series, since the backend has no room for it
// by its configured limit.
func (f *family) refused(err error) {
	r := f.reg
	if !r.opts.NoSelfMetrics && f.def.Name != r.opts.Prefix+overflowedName {
		if vec, err := newOwnVec(r, overflowedName, overflowedHelp); err == nil {
			vec.With(f.def.Name).Inc()
		}
	}
	r.log(slog.LevelWarn, "limit "+f.def.Name, "the backend has no room for further series; they are counted in one overflow series",
		"metric", f.def.Name, "value of its labels", OverflowValue, "error", err)
}

func (v *Vec[M]) makeOverflow() *M {
	values := overflowValues(len(v.names))
	v.fam.mu.Lock()
	defer v.fam.unlock()
	m := v.uncounted(values)
	v.table.overflow.Store(v.table.find(values))
	return m
}
