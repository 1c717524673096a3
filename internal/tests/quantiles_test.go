package tests_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// exactQuantiles returns the quantiles of recorded observations by nearest rank.
func exactQuantiles(values []float64, objectives []float64) (exact []float64) {
	sorted := slices.Sorted(slices.Values(values))
	for _, q := range objectives {
		if len(sorted) == 0 {
			exact = append(exact, nan)
			continue
		}
		rank := max(int(math.Ceil(q*float64(len(sorted)))), 1)
		exact = append(exact, sorted[rank-1])
	}
	return exact
}

func checkQuantiles(t *testing.T, when string, got, values, objectives []float64, relative float64) {
	t.Helper()
	for i, want := range exactQuantiles(values, objectives) {
		if math.IsNaN(want) != math.IsNaN(got[i]) || math.Abs(got[i]-want) > relative*math.Abs(want)*(1+1e-9) {
			t.Errorf("%s: quantile %v of %d observations is %v, want %v within %v", when, objectives[i], len(values), got[i], want, relative)
		}
	}
}

// At every moment of the window, quantiles over three registries on a file are within the error of
// the exact quantiles of the recorded observations.
func TestQuantilesAgainstReference(t *testing.T) {
	t.Parallel()
	objectives := []float64{0, .01, .25, .5, .9, .99, .999, 1}
	shapes := map[string]func(*rand.Rand) float64{
		"uniform":     func(r *rand.Rand) float64 { return r.Float64() },
		"exponential": func(r *rand.Rand) float64 { return r.ExpFloat64() / 100 },
		"log-normal":  func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64() * 3) },
		"normal":      func(r *rand.Rand) float64 { return r.NormFloat64() },
		"integers":    func(r *rand.Rand) float64 { return float64(r.IntN(5)) },
		"pareto":      func(r *rand.Rand) float64 { return 1 / (1 - r.Float64()) },
	}
	for name, draw := range shapes {
		for _, relative := range []float64{.005, .01, .1} {
			t.Run(fmt.Sprint(name, " ", relative), func(t *testing.T) {
				t.Parallel()
				var clock atomic.Int64
				clock.Store(1e9 * int64(time.Second))
				now := func() time.Time { return time.Unix(0, clock.Load()) }
				rnd := rand.New(rand.NewPCG(10, 11))
				// 32-bit machines have no addresses for more.
				url := "shm://" + filepath.Join(t.TempDir(), "test") + "?fs=any&limit=2MiB"
				var rs []*gotheus.Registry
				var ss []*gotheus.Summary
				for range 3 {
					r, _ := newRegistry(t, &gotheus.RegistryOptions{Now: now})
					bind(t, r, url)
					rs = append(rs, r)
					ss = append(ss, r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: objectives, RelativeError: relative}))
				}
				type slot struct{ values []float64 }
				var slots []slot
				count := 0
				for step := range 12 { // each step is a slot of two minutes
					var s slot
					n := []int{500, 0, 30, 2000}[step%4]
					if step > 7 {
						n = 0
					}
					for range n {
						v := draw(rnd)
						s.values = append(s.values, v)
						ss[rnd.IntN(3)].Observe(v)
						count++
					}
					slots = append(slots, s)
					var window []float64
					for _, s := range slots[max(0, len(slots)-5):] {
						window = append(window, s.values...)
					}
					for i, r := range rs {
						d := distributions(r, "s")[""]
						if d.Count != uint64(count) {
							t.Errorf("count %d, want %d", d.Count, count)
						}
						checkQuantiles(t, fmt.Sprint("step ", step, " registry ", i), d.Quantiles, window, objectives, relative)
					}
					clock.Add(int64(2 * time.Minute))
					// It is enough that one of them is scraped.
					sweep(rs[step%3], now())
				}
			})
		}
	}
}

// The page of a summary, whose window advances even if it is never scraped.
func TestQuantilesOnAPage(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64 // also read in the background
	clock.Store(1e9 * int64(time.Second))
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, Now: now})
	s := r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5, 1}, MaxAge: time.Minute, Slots: 6})
	if got := page(t, r); got != "# HELP s S.\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns{quantile=\"1\"} NaN\ns_sum 0\ns_count 0\n" {
		t.Error(got)
	}
	s.ObserveN(0, 3)
	s.Observe(-1)
	pageHas(t, r, `s{quantile="0.5"} 0`, `s{quantile="1"} 0`, `s_sum -1`, `s_count 4`)
	for range 6 {
		clock.Add(int64(10 * time.Second))
		sweep(r, now())
	}
	pageHas(t, r, `s{quantile="0.5"} NaN`, `s_sum -1`, `s_count 4`)
	s.Observe(0)
	clock.Add(int64(time.Hour)) // the machine was suspended
	pageHas(t, r, `s{quantile="0.5"} NaN`)
	clock.Add(-2 * int64(time.Hour)) // the clock was wrong
	s.Observe(0)
	page(t, r)
	s.Observe(0)
	pageHas(t, r, `s{quantile="0.5"} 0`, `s_count 7`)
}

// After a restart of the program, observations from before it that are outside the window are not
// in quantiles.
func TestQuantilesAfterARestart(t *testing.T) {
	t.Parallel()
	var now atomic.Int64 // also read in the background
	now.Store(1e9)
	clock := &gotheus.RegistryOptions{NoSelfMetrics: true, Now: func() time.Time { return time.Unix(now.Load(), 0) }}
	url := shmURL(t)
	o := &gotheus.SummaryOptions{Objectives: []float64{.5}}
	first, _ := newRegistry(t, clock)
	bind(t, first, url)
	s := first.NewSummary("s", "S.", o)
	for i := range 1000 {
		s.Observe(math.Exp2(float64(i) / 40))
	}
	first.Close(t.Context())
	second, _ := newRegistry(t, clock)
	bind(t, second, url)
	second.NewSummary("s", "S.", o)
	if d := distributions(second, "s")[""]; math.IsNaN(d.Quantiles[0]) || d.Count != 1000 {
		t.Errorf("at once: %+v", d)
	}
	second.Close(t.Context())
	now.Add(3600)
	third, _ := newRegistry(t, clock)
	bind(t, third, url)
	s = third.NewSummary("s", "S.", o)
	s.Observe(3)
	if d := distributions(third, "s")[""]; math.Abs(d.Quantiles[0]-3) > .03 || d.Count != 1001 {
		t.Errorf("an hour later: %+v", d)
	}
}

// If the backend has no room for further blocks, neighbouring buckets are united: quantiles are
// half as accurate, and not worse.
func TestQuantilesWithoutRoom(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New()}
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	objectives := []float64{.01, .5, .99, 1}
	s := r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: objectives, RelativeError: .01})
	b.set(fmt.Errorf("%w: for the test", backend.ErrFull))
	var values []float64
	for i := 71; i <= 400; i++ { // one bucket more than a series has among its own words
		values = append(values, math.Exp2(float64(i)/350))
		s.Observe(values[len(values)-1])
	}
	checkQuantiles(t, "without room", distributions(r, "s")[""].Quantiles, values, objectives, .02)
	b.set(nil)
}

// A summary that is deleted and comes back starts a new window, for other processes, too.
func TestQuantilesOfAnotherLife(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	var vecs []*gotheus.Vec[gotheus.Summary]
	var rs []*gotheus.Registry
	for range 2 {
		r, _ := newRegistry(t, nil)
		bind(t, r, url)
		rs = append(rs, r)
		vecs = append(vecs, r.NewSummaryVec("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}}, "l"))
	}
	for life := range 3 {
		var values []float64
		for i := range 300 {
			v := math.Exp2(float64(i)/20 + float64(life))
			values = append(values, v, v)
			vecs[0].With("a").Observe(v)
			vecs[1].With("a").Observe(v)
		}
		d := distributions(rs[0], "s")[`l="a"`]
		checkQuantiles(t, fmt.Sprint("life ", life), d.Quantiles, values, []float64{.5}, .01)
		vecs[life%2].DeleteAll()
	}
}

func TestSummaryRejects(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	for want, o := range map[string]gotheus.SummaryOptions{
		"RelativeError 2 must be from":           {Objectives: []float64{.5}, RelativeError: 2},
		"RelativeError NaN must be from":         {Objectives: []float64{.5}, RelativeError: nan},
		"quantile 1.5 must be from 0 to 1":       {Objectives: []float64{1.5}},
		"quantile NaN must be from 0 to 1":       {Objectives: []float64{nan}},
		"quantile 0.5 is given twice":            {Objectives: []float64{.5, .5}},
		"quantile 0.5 comes after 0.9":           {Objectives: []float64{.9, .5}},
		"100 slots of its window":                {Objectives: []float64{.5}, Slots: 100},
		"Slots -1 must be":                       {Objectives: []float64{.5}, Slots: -1},
		"maximal age -1s":                        {Objectives: []float64{.5}, MaxAge: -time.Second},
		"need Objectives":                        {MaxAge: time.Second},
		"must be a millisecond or more for each": {Objectives: []float64{.5}, MaxAge: time.Microsecond},
	} {
		_, err := gotheus.TryNew[gotheus.Summary](r, "s_seconds", "S.", &o)
		if !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), "s_seconds") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}})
	_, err := gotheus.TryNew[gotheus.Summary](r, "s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.9}})
	if !errors.Is(err, gotheus.ErrConflict) || !strings.Contains(err.Error(), "it already has quantiles") {
		t.Errorf("got %v", err)
	}
}
