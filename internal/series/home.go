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

// Home is what families need from their registry: the backend in use, the clock, the log and the
// directory of families. The zero value is ready and uses a heap. The fields of the first group are
// set before it is used.
type Home struct {
	Prefix   string                       // of the library's own families
	Labels   Labels                       // constant labels of the library's own families
	Clock    func() time.Time             // nil: time.Now
	Exemplar func(context.Context) Labels // labels of a context's exemplar
	NoFaults bool                         // leaves out the families that count faults

	Log       report.Log
	Moves     sync.Mutex  // held for the instant in which a series moves
	Postponed retry.Queue // families and series that the backend had no room for

	bound     atomic.Pointer[Binding]
	idle      periodic.Timer // deletes series whose time to live is over
	windows   periodic.Timer // advances the windows of quantiles
	directory directory
	faults    faults
}

// Labels are label names with their values.
type Labels = map[string]string

// Binding is a backend while a registry uses it.
type Binding struct {
	backend.Backend
	Local  bool // the registry's own heap, which no other process sees
	Number int  // distinguishes live processes
}

// Bound returns b as a binding.
func Bound(b backend.Backend) *Binding {
	bound := &Binding{Backend: b}
	if n, ok := b.(backend.Numbered); ok {
		bound.Number = n.Number()
	}
	return bound
}

// LocalHeap returns a heap of the registry's own.
func LocalHeap() *Binding { return &Binding{Backend: heap.New(), Local: true} }

// Current returns the backend in use, at first a heap.
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
		return h.Clock()
	}
	return time.Now()
}

// since returns the seconds elapsed since start.
func (h *Home) since(start time.Time) float64 {
	if h.Clock != nil {
		return h.Clock().Sub(start).Seconds()
	}
	return time.Since(start).Seconds() // cheaper than time.Now().Sub
}

// zeroTimeLimit is how many seconds ago the zero time must be to be taken for a time that was never
// set: the clock of a test may start at the zero time.
const zeroTimeLimit = 1e9

// Since returns the seconds elapsed since start by the registry's clock. If start cannot be right,
// it returns 0 and reports that: the event still counts, whatever its time was.
func (f *Family) Since(op string, start time.Time) float64 {
	v := f.Home.since(start)
	if v < 0 || v > zeroTimeLimit && start.IsZero() {
		f.report("a time was taken as 0", op, start,
			"the start must be a time by the registry's clock and not later than now")
		return 0
	}
	return v
}

// ExemplarOf returns the labels of the exemplar for ctx; nil if it has none.
func (h *Home) ExemplarOf(ctx context.Context) Labels {
	if h.Exemplar == nil {
		return nil
	}
	return h.Exemplar(ctx)
}

// nanoseconds returns t in nanoseconds since 1970, or 0 if it is before 1970 or does not fit.
func nanoseconds(t time.Time) int64 {
	const maxSeconds = (1<<63 - 1) / int64(time.Second)
	if s := t.Unix(); s < 0 || s >= maxSeconds {
		return 0
	}
	return t.UnixNano()
}
