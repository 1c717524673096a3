package judges

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus"
)

// TestInFlight: goroutines observe one value again and again, so that a sum tells how many
// observations are in it. It differs from the count by no more than what is being observed while
// the series is read: an observation of each goroutine, and those that begin and end meanwhile,
// which the test counts.
func TestInFlight(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"heap", "shm"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			const goroutines, pages, value = 8, 300, 0.5
			r := gotheus.NewRegistry(nil)
			if backend == "shm" {
				bind(t, r, shmURL(t))
			}
			h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Buckets: []float64{.1, 1, 10}})
			s := r.NewSummary("s", "S.", nil)
			var begun, ended [2]atomic.Int64 // of the histogram and of the summary
			var stop atomic.Bool
			var wait sync.WaitGroup
			for range goroutines {
				wait.Go(func() {
					for !stop.Load() {
						begun[0].Add(1)
						h.Observe(value)
						ended[0].Add(1)
						begun[1].Add(1)
						s.Observe(value)
						ended[1].Add(1)
					}
				})
			}
			defer wait.Wait()
			defer stop.Store(true)
			for range pages {
				var text strings.Builder
				before := [2]int64{ended[0].Load(), ended[1].Load()}
				if err := r.WriteText(&text); err != nil {
					t.Fatal(err)
				}
				page := judge(t, "text/plain; version=0.0.4", []byte(text.String()))
				page.checkBuckets(t)
				for i, name := range []string{"h", "s"} {
					f := page[name]
					count, sum := f.samples[name+"_count"], f.samples[name+"_sum"]/value
					inFlight := float64(begun[i].Load() - before[i])
					if math.Abs(count-sum) > inFlight {
						t.Fatalf("%s: the count is %v, but %v observations are in the sum; %v were in flight", name, count, sum, inFlight)
					}
					if count < float64(before[i]) || sum < float64(before[i]) {
						t.Fatalf("%s: count %v, sum %v; %d observations had ended before", name, count, sum, before[i])
					}
				}
			}
			stop.Store(true)
			wait.Wait()
			if n := float64(begun[0].Load()); h.Sum() != n*value || s.Sum() != float64(begun[1].Load())*value {
				t.Errorf("sums %v and %v after %v observations", h.Sum(), s.Sum(), n)
			}
		})
	}
}
