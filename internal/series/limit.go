package series

import (
	"log/slog"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// OverflowValue is the value of all labels of the overflow series, which look-ups return when a
// family has reached its limit of series.
const OverflowValue = backend.OverflowValue

// Limit is a family's limit of series from look-ups. Once it is reached, a look-up that finds
// nothing needs only one atomic load to return the overflow series: it may be one of very many that
// an attacker causes.
type Limit struct {
	max     atomic.Int64 // negative: no limit
	counted int64        // series that look-ups have made; guarded by the family's lock
	full    atomic.Bool  // counted has reached max: look-ups make no more series

	overflowed atomic.Pointer[tally] // nil: not counted
}

// Max returns the limit. A negative one means that there is none.
func (l *Limit) Max() int64 { return l.max.Load() }

// SetMax replaces the limit.
func (l *Limit) SetMax(n int64) {
	l.max.Store(n)
	l.full.Store(false)
}

// becomeFull is called by look-ups that find the limit reached before full is set. It sets full
// last, so that look-ups that take the fast path find the tally.
func (f *Family) becomeFull() {
	if f.dropDeleted() {
		return // other processes have deleted some, which makes room
	}
	f.overflowed.Store(f.Home.tallyOf(overflowedLookups, f))
	f.mu.Lock()
	if limit := f.max.Load(); limit >= 0 && f.counted >= limit {
		f.full.Store(true)
	}
	f.mu.Unlock()
	f.Home.Log.Log(slog.LevelWarn, "overflow "+f.Def.Name,
		"a family has reached its limit of series; further label sets are counted in one overflow series",
		"metric", f.Def.Name, "max", f.max.Load(), "value of its labels", OverflowValue)
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
