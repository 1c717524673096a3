package series

import (
	"log/slog"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// OverflowValue is the value of all labels of the series that look-ups return once the family has
// reached its limit.
const OverflowValue = backend.OverflowValue

// Limit limits the series that look-ups create in a family. Once it is reached, a look-up that
// finds nothing learns that from one atomic load: under attack, there may be very many.
type Limit struct {
	max     atomic.Int64 // negative: none
	counted int64        // series that look-ups have made; guarded by the family's lock
	full    atomic.Bool  // counted has reached max

	overflowed atomic.Pointer[tally] // nil: not counted
}

// Max returns the limit; negative: there is none.
func (l *Limit) Max() int64 { return l.max.Load() }

// SetMax sets another limit.
func (l *Limit) SetMax(n int64) {
	l.max.Store(n)
	l.full.Store(false)
}

// becomeFull is called by the first look-ups that the limit stops.
func (f *Family) becomeFull() {
	if f.drop(func(*Series) bool { return true }) {
		return // other processes have deleted some
	}
	f.overflowed.Store(f.Home.tallyOf(overflowedLookups, f))
	f.mu.Lock()
	if limit := f.max.Load(); limit >= 0 && f.counted >= limit {
		f.full.Store(true)
	}
	f.mu.Unlock()
	f.Home.Log.Log(slog.LevelWarn, "overflow "+f.Def.Name,
		"a family has reached its limit of series; further ones are counted in one overflow series",
		"metric", f.Def.Name, "max", f.max.Load(), "label value", OverflowValue)
}

func (f *Family) overflowValues() []string {
	values := make([]string, len(f.Open))
	for i := range values {
		values[i] = OverflowValue
	}
	return values
}

// overflowLabels returns the label text of the family's overflow series.
func (f *Family) overflowLabels() string { return f.text.Write(f.overflowValues()) }
