package tests_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

func TestObserveN(t *testing.T) {
	t.Parallel()
	const most = 1<<53 - 1
	type call struct {
		v float64
		n uint64
	}
	for name, c := range map[string]struct {
		calls    []call
		count    uint64
		sum      float64
		rejected int
	}{
		"none":                  {[]call{{1, 0}, {nan, 0}, {inf, 0}}, 0, 0, 0},
		"once":                  {[]call{{1.5, 1}}, 1, 1.5, 0},
		"some":                  {[]call{{1.5, 4}, {-.25, 2}, {0, 7}}, 13, 5.5, 0},
		"2^32-1":                {[]call{{1, 1<<32 - 1}}, 1<<32 - 1, 1<<32 - 1, 0},
		"2^32":                  {[]call{{1, 1 << 32}, {1, 1}}, 1<<32 + 1, 1<<32 + 1, 0},
		"most":                  {[]call{{2, most}}, most, 2 * most, 0},
		"2^53":                  {[]call{{1, 1 << 53}, {1, 1}}, 1, 1, 1},
		"all bits":              {[]call{{1, math.MaxUint64}, {1, 1 << 63}}, 0, 0, 2},
		"not finite":            {[]call{{nan, 1}, {inf, 2}, {-inf, 3}}, 0, 0, 3},
		"product not finite":    {[]call{{1e300, 1e9}, {-1e300, 1e9}, {math.MaxFloat64, 2}}, 0, 0, 3},
		"product just finite":   {[]call{{math.MaxFloat64, 1}}, 1, math.MaxFloat64, 0},
		"sum becomes infinite":  {[]call{{math.MaxFloat64, 1}, {math.MaxFloat64, 1}, {-1e308, 1}}, 3, inf, 0},
		"smallest value":        {[]call{{math.SmallestNonzeroFloat64, 3}}, 3, 3 * math.SmallestNonzeroFloat64, 0},
		"product of minus zero": {[]call{{math.Copysign(0, -1), 3}}, 3, 0, 0},
	} {
		r, log := newRegistry(t, nil)
		h, s := r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
		for _, call := range c.calls {
			h.ObserveN(call.v, call.n)
			s.ObserveN(call.v, call.n)
		}
		if h.Count() != c.count || h.Sum() != c.sum || s.Count() != c.count || s.Sum() != c.sum {
			t.Errorf("%s: histogram %d %v, summary %d %v, want %d %v", name, h.Count(), h.Sum(), s.Count(), s.Sum(), c.count, c.sum)
		}
		if c.rejected > 0 {
			pageHas(t, r, fmt.Sprintf(`gotheus_rejected_updates_total{metric="h"} %d`, c.rejected), fmt.Sprintf(`gotheus_rejected_updates_total{metric="s"} %d`, c.rejected))
			if !strings.Contains(log.String(), "Histogram.ObserveN") || !strings.Contains(log.String(), "Summary.ObserveN") {
				t.Errorf("%s: log: %s", name, log)
			}
		} else if log.String() != "" {
			t.Errorf("%s: log: %s", name, log)
		}
	}
}

// ObserveN equals n calls of Observe, in every bucket.
func TestObserveNIsManyTimesObserve(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		o := &gotheus.HistogramOptions{Buckets: gotheus.LinearBuckets(-2, .5, 1+rnd.IntN(30))}
		one, many := gotheus.NewRegistry(nil), gotheus.NewRegistry(nil)
		for range 20 {
			v, n := float64(rnd.IntN(64)-24)/4, rnd.Uint64N(5)
			many.NewHistogram("h", "H.", o).ObserveN(v, n)
			many.NewSummary("s", "S.", nil).ObserveN(v, n)
			for range n {
				one.NewHistogram("h", "H.", o).Observe(v)
				one.NewSummary("s", "S.", nil).Observe(v)
			}
		}
		one.NewHistogram("h", "H.", o)
		one.NewSummary("s", "S.", nil)
		if got, want := page(t, many), page(t, one); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// However much is observed, no word gets near its seal, and the count never decreases.
func TestObserveNUntilFull(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	s := r.NewSummary("s", "S.", nil)
	h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Buckets: []float64{1, 2, 3, 4, 5, 6, 7}})
	one := r.NewHistogram("one", "O.", &gotheus.HistogramOptions{Buckets: []float64{}})
	var wait sync.WaitGroup
	for range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var before [3]uint64
			for i := range 3000 {
				n := uint64(1<<53 - 1)
				// The word is full for larger numbers, but takes what still fits.
				if i >= 500 {
					n = 1<<32 - 1
				}
				s.ObserveN(1, n)
				h.ObserveN(float64(1+i%8), n)
				one.ObserveN(1, n)
				now := [3]uint64{s.Count(), h.Count(), one.Count()}
				for j := range now {
					if now[j] < before[j] || now[j] > 1<<62 {
						t.Errorf("%d: %d after %d", j, now[j], before[j])
						return
					}
				}
				before = now
			}
		}()
	}
	wait.Wait()
	for name, c := range map[string]struct {
		count uint64
		sum   float64
	}{"s": {s.Count(), s.Sum()}, "one": {one.Count(), one.Sum()}} {
		// Refused observations are not in the sum either.
		if c.count < 1<<62-1<<53 || math.Abs(c.sum/float64(c.count)-1) > 1e-9 {
			t.Errorf("%s: count %d, sum %v", name, c.count, c.sum)
		}
	}
	if !strings.Contains(page(t, r), "\nh_count ") {
		t.Error("the page lacks the histogram")
	}
	before := [3]uint64{s.Count(), h.Count(), one.Count()}
	s.Observe(1) // still counts
	h.Observe(1)
	one.Observe(1)
	if now := [3]uint64{s.Count(), h.Count(), one.Count()}; now != [3]uint64{before[0] + 1, before[1] + 1, before[2] + 1} {
		t.Errorf("%v after %v", now, before)
	}
}

// If several processes bind with full words, the sum does not reach the seal.
func TestBindFullWords(t *testing.T) {
	t.Parallel()
	b := heap.New()
	last := uint64(0)
	for range 5 {
		r, log := newRegistry(t, nil)
		s := r.NewSummary("s", "S.", nil)
		h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Buckets: []float64{1}})
		for range 600 {
			s.ObserveN(1, 1<<53-1)
			h.ObserveN(1, 1<<53-1)
			h.ObserveN(2, 1<<53-1)
		}
		r.BindBackend(t.Context(), b)
		if s.Count() > 1<<62+5 || s.Count() < 1<<62-1<<53 || h.Count() > 1<<62 || h.Count() < 1<<62-1<<54 {
			t.Errorf("counts %d and %d", s.Count(), h.Count())
		}
		s.Observe(1) // still counts
		if s.Count() <= last {
			t.Errorf("%d after %d", s.Count(), last)
		}
		last = s.Count()
		if p := page(t, r); !strings.Contains(p, "\ns_count ") || !strings.Contains(p, "\nh_count ") || strings.Contains(log.String(), "damaged") {
			t.Errorf("page: %s, log: %s", p, log)
		}
	}
}

// Histograms and summaries are bound while eight goroutines observe. A second registry shows that
// no observation is lost or counted twice.
func TestLateBindingObserveN(t *testing.T) {
	t.Parallel()
	const runs, goroutines, updates = 50, 8, 200
	for run := range runs {
		b := heap.New()
		url := shmURL(t)
		r, other := gotheus.NewRegistry(nil), gotheus.NewRegistry(nil)
		h, s := r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
		move := func(r *gotheus.Registry) error {
			if run%2 == 0 {
				return r.BindBackend(t.Context(), b)
			}
			return r.Bind(t.Context(), url)
		}
		var wait sync.WaitGroup
		var done atomic.Int64
		for range goroutines {
			wait.Add(1)
			go func() {
				defer wait.Done()
				for i := range updates {
					n := uint64(1 + i%3)
					if i%4 == 0 {
						// Large enough to be added by compare-and-swap.
						n = 1 << 40
					}
					h.ObserveN(float64(i%4), n)
					s.ObserveN(.5, n)
					h.Observe(1)
					done.Add(1)
				}
			}()
		}
		// A different moment in each run.
		for int(done.Load()) < run*goroutines*updates/runs {
		}
		if err := move(r); err != nil {
			t.Fatal(err)
		}
		wait.Wait()
		if err := move(other); err != nil {
			t.Fatal(err)
		}
		var buckets [4]uint64
		for i := range updates {
			n := uint64(1 + i%3)
			if i%4 == 0 {
				n = 1 << 40
			}
			buckets[i%4] += n * goroutines
		}
		buckets[1] += goroutines * updates
		count := buckets[0] + buckets[1] + buckets[2] + buckets[3]
		pageHas(t, other, fmt.Sprintf(`h_bucket{le="0.005"} %d`, buckets[0]), fmt.Sprintf(`h_bucket{le="1"} %d`, buckets[0]+buckets[1]),
			fmt.Sprintf(`h_bucket{le="2.5"} %d`, count-buckets[3]), fmt.Sprintf("h_count %d", count),
			fmt.Sprintf("h_sum %d", buckets[1]+2*buckets[2]+3*buckets[3]), fmt.Sprintf("s_count %d", count-goroutines*updates))
		if got, want := other.NewSummary("s", "S.", nil).Sum(), float64(count-goroutines*updates)/2; got != want {
			t.Errorf("sum %v, want %v", got, want)
		}
		r.Close(t.Context())
		other.Close(t.Context())
		if t.Failed() {
			t.Fatalf("run %d", run)
		}
	}
}

// If a deletion has sealed the words, ObserveN brings the series back, too.
func TestObserveNSealedWords(t *testing.T) {
	t.Parallel()
	b := heap.New()
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	h, s := r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
	for _, n := range []uint64{1, 1 << 40} {
		h.ObserveN(1, n)
		s.ObserveN(1, n)
		for _, group := range b.Walk() {
			group.Family.Seal(group.Series[0].Words)
		}
		h.ObserveN(1, n)
		s.ObserveN(1, n)
		if h.Count() != n || s.Count() != n || h.Sum() != float64(n) || s.Sum() != float64(n) {
			t.Errorf("histogram %d %v, summary %d %v", h.Count(), h.Sum(), s.Count(), s.Sum())
		}
		h.ObserveN(2, 1)
	}
}

func TestObserveNAllocations(t *testing.T) {
	r, _ := newRegistry(t, nil)
	h, s := r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
	if n := testing.AllocsPerRun(100, func() { h.ObserveN(1, 3); s.ObserveN(1, 1<<40) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserveN(b *testing.B) {
	r := gotheus.NewRegistry(nil)
	h, s := r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
	b.Run("histogram", func(b *testing.B) {
		for b.Loop() {
			h.ObserveN(.3, 100)
		}
	})
	b.Run("summary", func(b *testing.B) {
		for b.Loop() {
			s.ObserveN(.3, 100)
		}
	})
}
