package series

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/periodic"
	"github.com/gotheus/gotheus/internal/report"
	"github.com/gotheus/gotheus/internal/retry"
)

// Home is what families know of their registry: the backend in use, the clock, the log, and the
// other families. The zero value is ready to use and has a heap. Exported fields other than Log,
// Moves and Postponed must be set before use.
type Home struct {
	Prefix   string                       // of the library's own families
	Labels   Labels                       // constant labels of the library's own families
	Clock    func() time.Time             // nil: time.Now
	Exemplar func(context.Context) Labels // returns exemplar labels from a context; nil: none
	NoFaults bool                         // leaves out the families that count faults

	Log       report.Log
	Moves     sync.Mutex  // held briefly while one series moves, see the package comment
	Postponed retry.Queue // families and series that the backend had no room for

	bound     atomic.Pointer[Binding]
	idle      periodic.Timer // deletes series that have expired
	windows   periodic.Timer // advances the windows of quantiles
	reclaim   periodic.Timer // lets the backend use the space of deleted series
	directory directory
	faults    faults

	clockPanics atomic.Int64 // that reportClock has not counted yet
	refreshing  refreshing
}

// Labels maps label names to values.
type Labels = map[string]string

// Binding is a backend as one registry uses it.
type Binding struct {
	backend.Backend
	Local bool // the registry's own heap, which no other registry or process uses
	// Closed is set for the heap of a registry that was bound: it has only what was counted
	// since the registry was closed, which is no page.
	Closed bool
	Number int // distinguishes live processes

	holds  *holds         // nil: the backend is no backend.Reclaimer
	census backend.Census // nil: no other process makes series
}

// Bound returns b as a binding.
func Bound(b backend.Backend) *Binding {
	bound := &Binding{Backend: b}
	if n, ok := b.(backend.Numbered); ok {
		bound.Number = n.Number()
	}
	if _, ok := b.(backend.Reclaimer); ok {
		bound.holds = new(holds)
	}
	bound.census, _ = b.(backend.Census)
	return bound
}

// LocalHeap returns a new heap for one registry.
func LocalHeap() *Binding { return &Binding{Backend: heap.New(), Local: true} }

// ClosedHeap returns a new heap for a registry that is being closed.
func ClosedHeap() *Binding { return &Binding{Backend: heap.New(), Local: true, Closed: true} }

// Current returns the backend in use. Until MoveAll, it is a heap. The compare-and-swap makes
// concurrent first calls agree on one heap, and never replaces a backend that MoveAll has stored.
func (h *Home) Current() *Binding {
	if b := h.bound.Load(); b != nil {
		return b
	}
	h.bound.CompareAndSwap(nil, LocalHeap())
	return h.bound.Load()
}

// Now returns the time by the registry's clock.
func (h *Home) Now() time.Time {
	if h.Clock != nil {
		return h.clockTime(time.Now)
	}
	return time.Now()
}

// clockTime calls the registry's clock. If it panics, the result is that of instead.
func (h *Home) clockTime(instead func() time.Time) time.Time {
	if now, ok := h.callClock(); ok {
		return now
	}
	return instead()
}

func (h *Home) callClock() (now time.Time, ok bool) {
	defer h.containClock()
	return h.Clock(), true
}

// containClock is Contain for the clock, which is called under locks that Contain may take: it
// leaves the rest to a goroutine, one at a time.
func (h *Home) containClock() {
	if p := recover(); p != nil && h.clockPanics.Add(1) == 1 {
		go h.reportClock(report.PanicError(p))
	}
}

func (h *Home) reportClock(err error) {
	for {
		n := h.clockPanics.Load()
		for range n {
			h.CountPanic()
		}
		h.logPanic("RegistryOptions.Now", err)
		if h.clockPanics.Add(-n) == 0 {
			return
		}
	}
}

// since returns the seconds that have passed since start.
func (h *Home) since(start time.Time) float64 {
	if h.Clock != nil {
		return h.clockTime(func() time.Time { return start }).Sub(start).Seconds()
	}
	return time.Since(start).Seconds() // cheaper than time.Now().Sub
}

// zeroTimeLimit is the number of seconds after which the zero time counts as a time that was never
// set rather than as a start: the clock of a test may begin at the zero time.
const zeroTimeLimit = 1e9

// Since returns the seconds that have passed since start by the registry's clock. If start is in
// the future or was never set, Since reports that and returns 0, so that the event itself still
// counts.
func (f *Family) Since(op string, start time.Time) float64 {
	v := f.Home.since(start)
	if v < 0 || v > zeroTimeLimit && start.IsZero() {
		f.report("an invalid duration was counted as 0", op, start,
			"the start must be a time by the registry's clock, and not be later than now")
		return 0
	}
	return v
}

// ExemplarOf returns the exemplar labels that the registry derives from ctx, if any.
func (h *Home) ExemplarOf(ctx context.Context) Labels {
	if h.Exemplar == nil {
		return nil
	}
	defer h.Contain("RegistryOptions.Exemplar")
	return h.Exemplar(ctx)
}

// nanoseconds returns t in nanoseconds since 1970, or 0 if it is earlier than that or too late for
// an int64.
func nanoseconds(t time.Time) int64 {
	const maxSeconds = (1<<63 - 1) / int64(time.Second)
	if s := t.Unix(); s < 0 || s >= maxSeconds {
		return 0
	}
	return t.UnixNano()
}
