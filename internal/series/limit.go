package series

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/lookup"
)

// OverflowValue is the value of all labels of the overflow series, which look-ups return when a
// family has reached its limit of series.
const OverflowValue = backend.OverflowValue

// Limit is a family's limit of series from look-ups. In the registry's own heap, these are counted
// as they are made. Other backends have series of other processes and of earlier ones, too: there,
// a census counts them, see backend.Census.
//
// Once the limit is reached, a look-up that finds nothing needs only a few loads to return the
// overflow series: it may be one of very many that an attacker causes.
type Limit struct {
	max  atomic.Int64         // negative: no limit
	full atomic.Pointer[full] // not nil: look-ups make no more series

	// guarded by the family's lock
	counted int64  // weight of the series that look-ups have made
	census  census // of the backend in use

	overflowed atomic.Pointer[tally] // nil: not counted

	someRefused atomic.Bool // series may count in the overflow series: see retryRefused
}

// census is what is known about the number of series that a backend has of a family.
type census struct {
	of      *Binding // nil: nothing is known
	changes uint64   // of the backend, before the series were counted
	weight  int64    // of the series that count towards the limit
	exact   bool     // weight is not only an upper bound
	labels  []string // of the existing series
	isNew   bool     // becomeFull has not seen it yet
	counting
}

// counting limits the time that goes into counting while the limit is reached: series of other
// families may come and go all the time.
type counting struct {
	since time.Time // beginning of a period
	spent time.Duration
}

const countPeriod, countMost = time.Second, 100 * time.Millisecond

func (c *counting) allowed() bool {
	if now := time.Now(); now.Sub(c.since) >= countPeriod {
		*c = counting{since: now}
	}
	return c.spent < countMost
}

// full says why look-ups make no more series.
type full struct {
	of      backend.Census // nil: the backend has no other series than the table
	changes uint64         // of the backend, before the series were counted
	ids     map[uint64]bool
}

// hasNot reports whether it is certain that no series with these values exists.
func (x *full) hasNot(values []string) bool {
	return x.of == nil || x.of.Changes() == x.changes && !x.ids[lookup.ID(values)]
}

// Max returns the limit. A negative one means that there is none.
func (l *Limit) Max() int64 { return l.max.Load() }

// SetMax replaces the limit.
func (l *Limit) SetMax(n int64) {
	l.max.Store(n)
	l.full.Store(nil)
}

// counts reports whether a series counts towards the limit. The caller holds the family's lock.
func (f *Family) counts(labels string) bool {
	return f.IsVec && f.max.Load() >= 0 && !f.pinned[labels] && labels != f.overflow
}

// hasRoom reports whether a series that counts towards the limit exists in b already or may be made
// there. The caller holds the family's lock.
func (f *Family) hasRoom(b *Binding, labels string) bool {
	if limit := f.max.Load(); b.census == nil {
		return f.counted < limit
	} else if f.fits(b, limit) {
		return true
	}
	return b.Exists(f.Def, labels)
}

// fits reports whether b has less series than the limit. The caller holds the family's lock.
func (f *Family) fits(b *Binding, limit int64) bool {
	x := &f.census
	if x.of != b {
		*x = census{of: b, changes: b.census.Changes()}
		x.weight = b.census.Most()
	}
	changes := b.census.Changes()
	switch {
	case x.weight < limit && changes-x.changes < uint64(limit-x.weight):
		return true
	case x.exact && x.weight >= limit && (changes == x.changes || !x.allowed()):
		return false
	}
	f.count(b)
	return x.weight < limit
}

// count counts the series that b has. The caller holds the family's lock.
func (f *Family) count(b *Binding) {
	start := time.Now()
	x := census{of: b, changes: b.census.Changes(), exact: true, isNew: true, counting: f.census.counting}
	for _, labels := range b.census.Existing(f.Def) {
		if !f.Owns(labels) {
			continue
		}
		x.labels = append(x.labels, labels)
		if f.counts(labels) {
			x.weight += backend.Weight(labels)
		}
	}
	if x.weight < f.max.Load() {
		x.labels = nil
	}
	x.spent += time.Since(start)
	f.census = x
}

// becomeFull is called by look-ups that find the limit reached before full is set. It sets full
// last, so that look-ups that take the fast path find the tally.
func (f *Family) becomeFull() {
	start := time.Now()
	f.mu.Lock()
	b, again := f.Home.Current(), false
	if b.census != nil {
		again = !f.census.isNew
		f.census.isNew = false
	}
	f.mu.Unlock()
	if again {
		// The goroutine that found the family full may not have got that far yet.
		if f.overflowed.Load() == nil {
			f.overflowed.Store(f.Home.tallyOf(overflowedLookups, f))
		}
		return
	}
	if f.dropDeleted() && b.census == nil {
		return // others have deleted some, which makes room
	}
	f.overflowed.Store(f.Home.tallyOf(overflowedLookups, f))
	f.mu.Lock()
	f.setFull()
	f.census.spent += time.Since(start)
	f.mu.Unlock()
	f.logFull()
	if b.census != nil {
		f.Home.refresh(b)
	}
}

// setFull sets full if the limit is reached. The caller holds the family's lock.
func (f *Family) setFull() {
	b, limit := f.Home.Current(), f.max.Load()
	switch x := &f.census; {
	case limit < 0:
	case b.census == nil:
		if f.counted >= limit {
			f.full.Store(new(full))
		}
	case x.of == b && x.exact && x.weight >= limit && x.labels != nil:
		ids, values := make(map[uint64]bool, len(x.labels)), make([]string, 0, len(f.Open))
		for _, labels := range x.labels {
			values = values[:0]
			for name, v := range backend.ParseLabels(labels) {
				if _, ok := f.Constant[name]; !ok {
					values = append(values, v)
				}
			}
			ids[lookup.ID(values)] = true
		}
		f.full.Store(&full{b.census, x.changes, ids})
	}
}

// refresh reads what other processes have deleted in a backend on another machine, so that families
// that are full learn of it. It does so in the background, and not too often.
func (h *Home) refresh(b *Binding) {
	store, ok := b.Backend.(backend.Learner)
	if !ok {
		return
	}
	h.refreshing.Lock()
	defer h.refreshing.Unlock()
	if now := time.Now(); now.Sub(h.refreshing.last) >= Timeout {
		h.refreshing.last = now
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), Timeout)
			defer cancel()
			store.Learn(ctx)
		}()
	}
}

// refreshing records when refresh last read a backend.
type refreshing struct {
	sync.Mutex
	last time.Time
}

// learnWait is how long MoveAll waits to learn which series a backend on another machine has.
const learnWait = 250 * time.Millisecond

// learn reads which series a backend on another machine has, so that limits of series take them
// into account. If that takes too long, it goes on in the background.
func (b *Binding) learn() {
	if store, ok := b.Backend.(backend.Learner); ok {
		ctx, cancel := context.WithTimeout(context.Background(), learnWait)
		defer cancel()
		store.Learn(ctx)
	}
}

// errMaxSeries says that a family has reached its limit. It is not an error of the backend.
var errMaxSeries = fmt.Errorf("%w: MaxSeries", backend.ErrLimit)

func (f *Family) logFull() {
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
