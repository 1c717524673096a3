package gotheus

import (
	"sync/atomic"
	"testing"
	"time"
)

// Once its blocks exist, an observation takes none of the library's locks and does not read the
// clock.
func TestObserveTakesNoLock(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	r := NewRegistry(&RegistryOptions{NoSelfMetrics: true, Now: func() time.Time {
		asked.Add(1)
		return time.Unix(1e9, 0)
	}})
	native := r.NewHistogram("native", "N.", &HistogramOptions{Native: new(NativeOptions)})
	both := r.NewHistogram("both", "B.", &HistogramOptions{Native: new(NativeOptions), Buckets: []float64{1, 2}})
	quantiles := r.NewSummary("quantiles", "Q.", &SummaryOptions{Objectives: []float64{.5}})
	observe := func() {
		for i := range 100 {
			for _, o := range []interface{ Observe(float64) }{native, both, quantiles} {
				o.Observe(float64(i))
			}
		}
	}
	observe()
	asked.Store(0)
	done := make(chan struct{})
	for _, f := range r.home.Families() {
		f.Lock().Lock()
		defer f.Lock().Unlock()
	}
	r.collectorsMu.Lock()
	defer r.collectorsMu.Unlock()
	r.home.Moves.Lock()
	defer r.home.Moves.Unlock()
	go func() {
		defer close(done)
		observe()
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("an observation waits for a lock")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the clock was read %d times", n)
	}
}
