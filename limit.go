package gotheus

import (
	"log/slog"
	"sync/atomic"
)

// OverflowValue is the value of all labels of the series that a look-up returns when its family has as
// many series as it may have, see Vec.
const OverflowValue = "gotheus_overflow"

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

func maxSeries(r *Registry, o *Options, vec bool) int64 {
	most := r.opts.MaxSeries
	if o != nil && o.MaxSeries != 0 {
		most = o.MaxSeries
	}
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

func (v *Vec[M]) makeOverflow() *M {
	values := make([]string, len(v.names))
	for i := range values {
		values[i] = OverflowValue
	}
	hash := hashValues(values)
	v.fam.mu.Lock()
	defer v.fam.unlock()
	m := v.create(hash, values, false)
	v.table.overflow.Store(v.table.find(hash, values))
	return m
}
