package tests_test

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// describeBoth returns all counts of a histogram with both kinds of buckets.
func describeBoth(d expo.Distribution) string {
	s := fmt.Sprint("count ", d.Count, " classic ", d.Buckets, " zeros ", d.Native.ZeroCount)
	for _, b := range append(d.Native.Negative, d.Native.Positive...) {
		s += fmt.Sprint(" bucket ", b.Index, ": ", b.Count)
	}
	return s
}

// At the limit of ObserveN, an observation counts in the classic buckets, the exponential ones and
// the sum, or in none of them.
func TestObserveNInBothOrNeither(t *testing.T) {
	t.Parallel()
	for where, url := range map[string]string{"heap": "", "shared memory": shmURL(t)} {
		for _, v := range []float64{1, 0, -1, 5} {
			r, log := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
			if url != "" {
				if err := r.Bind(t.Context(), url); err != nil {
					t.Fatal(err)
				}
			}
			h := r.NewHistogram(fmt.Sprintf("h%v", v+1), "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 2}, Buckets: []float64{2}})
			describe := func() string { return describeBoth(distributions(r, fmt.Sprintf("h%v", v+1))[""]) }
			const most, before = 1<<53 - 1, 1 << 62
			for range 1 << 9 {
				h.ObserveN(v, most)
			}
			for range 1000 { // which Observe does not limit
				h.Observe(v)
			}
			h.ObserveN(v, 1<<9+1) // one too many
			h.ObserveN(v, 1<<9)   // exactly what fits
			h.ObserveN(v, 1)
			h.Observe(v)
			want := fmt.Sprint("count ", uint64(before+1001))
			if v <= 2 {
				want += fmt.Sprint(" classic ", []uint64{before + 1001})
			} else {
				want += " classic [0]"
			}
			if v == 0 {
				want += fmt.Sprint(" zeros ", uint64(before+1001))
			} else {
				want += fmt.Sprint(" zeros 0 bucket ", map[float64]int{1: 0, -1: 0, 5: 3}[v], ": ", uint64(before+1001))
			}
			if got := describe(); got != want {
				t.Errorf("%s, %v: %s, want %s\n%s", where, v, got, want, log)
			}
			if got, want := h.Sum(), v*float64(before+1001); got < want*(1-1e-9) && v > 0 || got != 0 && v == 0 {
				t.Errorf("%s, %v: the sum is %v, want %v", where, v, got, want)
			}
			r.Close(t.Context())
		}
	}
}

// If several processes bind with full words, exponential buckets do not reach the seal either.
func TestBindFullExponentialBuckets(t *testing.T) {
	t.Parallel()
	b := heap.New()
	for i := range 5 {
		r, _ := newRegistry(t, nil)
		s := r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}})
		h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 2}, Buckets: []float64{2}})
		for range 600 {
			s.ObserveN(1, 1<<53-1)
			h.ObserveN(1, 1<<53-1)
		}
		s.ObserveN(2, 1)
		if err := r.BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if q := distributions(r, "s")[""].Quantiles[0]; !(q > .9 && q < 1.1) {
			t.Errorf("after %d processes, the median is %v", i+1, q)
		}
		d := distributions(r, "h")[""]
		if d.Count < backend.IntLimit-1<<53 || d.Count > backend.IntLimit || d.Buckets[0] != d.Count {
			t.Errorf("after %d processes: %s", i+1, describeBoth(d))
		}
	}
}
