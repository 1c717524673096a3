package gotheus

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Once its blocks are there, an observation takes none of the library's locks and asks no clock.
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
	for _, f := range r.allFamilies() {
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moveMu.Lock()
	defer r.moveMu.Unlock()
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
		t.Errorf("the clock was asked %d times", n)
	}
}

// What docs/distributions.md says of memory.
func TestMemoryOfASeries(t *testing.T) {
	t.Parallel()
	r := NewRegistry(&RegistryOptions{NoSelfMetrics: true})
	native := r.NewHistogram("native", "N.", &HistogramOptions{Native: new(NativeOptions)})
	quantiles := r.NewSummary("quantiles", "Q.", &SummaryOptions{Objectives: []float64{.5}})
	bytes := func(f *family, levels int) (n int) {
		for _, f := range append([]*backend.Family{f.def}, f.levels[:levels]...) {
			n += 8 * f.Words()
		}
		return n
	}
	for _, c := range []struct {
		f      *family
		levels int
		most   int
	}{
		{native.fam(), 0, 430},
		{native.fam(), 1, 2100},
		{native.fam(), len(native.fam().levels), 17500},
		{quantiles.fam(), 0, 1850},
		{quantiles.fam(), 1, 15500},
		{quantiles.fam(), 2, 69500},
		{quantiles.fam(), len(quantiles.fam().levels), 205000},
	} {
		if n := bytes(c.f, c.levels); n > c.most || n < c.most*9/10 {
			t.Errorf("%s with %d blocks: %d bytes, documented are %d", c.f.def.Name, c.levels, n, c.most)
		}
	}
}
