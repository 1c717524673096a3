package main

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// samples returns a quantity with a sample each second.
func samples(n int, f func(second float64) float64) *quantity {
	q := &quantity{name: "heap", unit: "MB", slack: 1, share: .02}
	for i := range n {
		q.add(time.Duration(i)*time.Second, f(float64(i)))
	}
	return q
}

func TestFit(t *testing.T) {
	t.Parallel()
	exact := fit([]float64{0, 1, 2, 3}, []float64{5, 7, 9, 11})
	if exact.slope != 2 || exact.mean != 8 || exact.sigma != 0 || exact.span != 3 || exact.n != 4 {
		t.Errorf("an exact line: %+v", exact)
	}
	// By hand: the slope is 0.6, the residuals -0.1, 0.3, -0.3, 0.1.
	near := fit([]float64{0, 1, 2, 3}, []float64{0, 1, 1, 2})
	if math.Abs(near.slope-.6) > 1e-12 || math.Abs(near.sigma-math.Sqrt(.2/2/5)) > 1e-12 {
		t.Errorf("a line by hand: %+v", near)
	}
	if l := fit(nil, nil); l.n != 0 || l.slope != 0 {
		t.Errorf("no samples: %+v", l)
	}
}

// A slope is found in noise, and noise is not taken for a slope. The seeds are fixed.
func TestGrows(t *testing.T) {
	t.Parallel()
	const seeds = 200
	var r *rand.Rand
	var drift float64
	for name, c := range map[string]struct {
		f     func(second float64) float64
		want  bool
		wrong int // verdicts that may be
	}{
		"steady":        {func(float64) float64 { return 100 }, false, 0},
		"noise":         {func(float64) float64 { return 100 + 5*r.NormFloat64() }, false, 0},
		"saw teeth":     {func(s float64) float64 { return 100 + 10*math.Mod(s, 30)/30 }, false, 0},
		"shrinking":     {func(s float64) float64 { return 100 - s/10 + r.NormFloat64() }, false, 0},
		"within slack":  {func(s float64) float64 { return 100 + s/400 }, false, 0},
		"slow noise":    {func(float64) float64 { drift = .9*drift + r.NormFloat64(); return 100 + drift }, false, 1},
		"growing":       {func(s float64) float64 { return 100 + s/10 }, true, 0},
		"growing noise": {func(s float64) float64 { return 100 + s/10 + 5*r.NormFloat64() }, true, 0},
		"growing steps": {func(s float64) float64 { return 100 + 10*math.Floor(s/20) }, true, 0},
	} {
		wrong := 0
		for seed := range uint64(seeds) {
			r, drift = rand.New(rand.NewPCG(seed, 1)), 0
			q := samples(300, c.f)
			if l := fit(q.after(60 * time.Second)); q.grows(l) != c.want {
				wrong++
				t.Logf("%s, seed %d: %+v", name, seed, l)
			}
		}
		if wrong > c.wrong {
			t.Errorf("%s: %d of %d verdicts are wrong, at most %d may be", name, wrong, seeds, c.wrong)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	growing := samples(100, func(s float64) float64 { return 10 + s })
	early := samples(130, func(s float64) float64 { return min(s, 105) })
	few := samples(minSamples-1, func(s float64) float64 { return s })
	early.name, few.name = "early", "few"
	var table strings.Builder
	got := judge(&table, []*quantity{growing, early, few}, 0)
	if len(got) != 2 || !strings.HasPrefix(got[0], "heap grows by 3600 ± 0 MB per hour") {
		t.Errorf("without a warm-up: %q", got)
	}
	if got := judge(&table, []*quantity{growing, early}, 105*time.Second); len(got) != 0 {
		t.Errorf("with a warm-up: %q", got)
	}
	for _, want := range []string{"GROWS", "steady"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, &table)
		}
	}
}
