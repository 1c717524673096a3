package tests_test

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

var (
	inf = math.Inf(1)
	nan = math.NaN()
)

func TestCounter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		add  []float64
		want string
	}{
		"integers":          {[]float64{1, 2, 0, 1 << 40}, "1099511627779"},
		"above 2^53":        {[]float64{1<<53 - 1, 1<<53 - 1, 1}, "18014398509481983"},
		"floats":            {[]float64{.5, 1, .25}, "1.75"},
		"float sum integer": {[]float64{.5, .5}, "1"},
		"large":             {[]float64{1e300, 1}, "1e+300"},
		"2^53":              {[]float64{1 << 53}, "9007199254740992"},
		"smallest":          {[]float64{math.SmallestNonzeroFloat64}, "5e-324"},
	} {
		r, _ := newRegistry(t, nil)
		m := r.NewCounter("x_total", "X.", nil)
		for _, v := range c.add {
			m.Add(v)
		}
		if got := page(t, r); !strings.HasSuffix(got, "\nx_total "+c.want+"\n") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A counter never decreases, however much is added. In peer libraries it wraps around.
func TestCounterNeverGoesDown(t *testing.T) {
	t.Parallel()
	for _, step := range []float64{1<<53 - 1, 1<<32 - 1, 1e19} {
		r, _ := newRegistry(t, nil)
		m := r.NewCounter("x_total", "X.", nil)
		var wait sync.WaitGroup
		for range 2 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				last := 0.0
				for range 3000 {
					m.Add(step)
					if v := m.Value(); v < last {
						t.Errorf("decreased from %v to %v", last, v)
						return
					} else {
						last = v
					}
				}
			}()
		}
		wait.Wait()
		if got, want := m.Value(), step*6000; math.Abs(got-want) > want*1e-9 {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestRejected(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, nil)
	c := r.NewCounter("c_total", "C.", nil)
	h := r.NewHistogram("h", "H.", nil)
	s := r.NewSummary("s", "S.", nil)
	c.Add(3)
	for _, v := range []float64{-1, nan, inf, -inf, -math.SmallestNonzeroFloat64} {
		c.Add(v)
	}
	for _, v := range []float64{nan, inf, -inf} {
		h.Observe(v)
		s.Observe(v)
	}
	if c.Value() != 3 || h.Count() != 0 || h.Sum() != 0 || s.Count() != 0 || s.Sum() != 0 {
		t.Errorf("values %v %v %v %v %v", c.Value(), h.Count(), h.Sum(), s.Count(), s.Sum())
	}
	pageHas(t, r, `gotheus_rejected_updates_total{metric="c_total"} 5`, `gotheus_rejected_updates_total{metric="h"} 3`, `gotheus_rejected_updates_total{metric="s"} 3`)
	for _, want := range []string{"metric=c_total operation=Counter.Add value=-1", "metric=h operation=Histogram.Observe value=NaN"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q is logged %d times:\n%s", want, n, log)
		}
	}
}

// A constant label may have the name of the fault counters' own label, metric.
func TestRejectedWithConstantLabel(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"metric": "m"}})
	r.NewCounter("c_total", "C.", nil).Add(-1)
	pageHas(t, r, `gotheus_rejected_updates_total{gotheus_metric="c_total",metric="m"} 1`)
}

func TestGauge(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	g := r.NewGauge("g", "G.", nil)
	for _, c := range []struct {
		do   func()
		want string
	}{
		{func() {}, "0"},
		{g.Inc, "1"},
		{func() { g.Set(10.5) }, "10.5"},
		{g.Dec, "9.5"},
		{func() { g.Add(-10) }, "-0.5"},
		{func() { g.Set(inf) }, "+Inf"},
		{func() { g.Set(-inf) }, "-Inf"},
		{func() { g.Add(inf) }, "NaN"},
		{func() { g.Set(nan) }, "NaN"},
		// No NaN may be mistaken for a seal.
		{func() { g.Set(math.Float64frombits(0x7ff8_6f74_6865_7573)) }, "NaN"},
		{func() { g.Add(1) }, "NaN"},
		{func() { g.Set(-1e21) }, "-1e+21"},
		{func() { g.Set(0) }, "0"},
	} {
		c.do()
		if got := page(t, r); !strings.HasSuffix(got, "\ng "+c.want+"\n") {
			t.Errorf("want %s: %s", c.want, got)
		}
	}
	before := time.Now()
	g.SetToCurrentTime()
	if v := g.Value(); v < float64(before.Unix())-1 || v > float64(time.Now().Unix())+1 {
		t.Errorf("current time %v", v)
	}
	g.SetSince(before)
	if v := g.Value(); v < 0 || v > 60 {
		t.Errorf("since %v", v)
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	h := r.NewHistogram("h_seconds", "H.", &gotheus.HistogramOptions{Buckets: []float64{-1, 0, 2.5}, Unit: "seconds"})
	for _, v := range []float64{-5, -1, -.5, 0, 2.5, 2.6, 100} {
		h.Observe(v)
	}
	want := `# HELP h_seconds H.
# TYPE h_seconds histogram
h_seconds_bucket{le="-1"} 2
h_seconds_bucket{le="0"} 4
h_seconds_bucket{le="2.5"} 5
h_seconds_bucket{le="+Inf"} 7
h_seconds_sum 98.6
h_seconds_count 7
`
	if got := page(t, r); got != want {
		t.Errorf("got %s", got)
	}
	if h.Count() != 7 || h.Sum() != 98.6 {
		t.Errorf("count %d, sum %v", h.Count(), h.Sum())
	}

	zero := r.NewHistogram("zero", "Minus zero is zero.", &gotheus.HistogramOptions{Buckets: []float64{math.Copysign(0, -1)}})
	if zero != r.NewHistogram("zero", "Minus zero is zero.", &gotheus.HistogramOptions{Buckets: []float64{0}}) {
		t.Error("minus zero is another bound")
	}
	zero.Observe(0)
	zero.Observe(math.Copysign(0, -1))
	pageHas(t, r, `zero_bucket{le="0"} 2`)

	alone := r.NewHistogram("alone", "Only +Inf.", &gotheus.HistogramOptions{Buckets: []float64{}})
	alone.ObserveSince(time.Now().Add(-time.Hour))
	if s := alone.Sum(); alone.Count() != 1 || s < 3600 || s > 3700 {
		t.Errorf("since: %v", s)
	}
	pageHas(t, r, `alone_bucket{le="+Inf"} 1`)

	// Both the search of many buckets and the scan of few are correct.
	many := r.NewHistogram("many", "Many.", &gotheus.HistogramOptions{Buckets: gotheus.LinearBuckets(0, 1, 50)})
	few := r.NewHistogram("few", "Few.", &gotheus.HistogramOptions{Buckets: gotheus.LinearBuckets(0, 1, 5)})
	for _, v := range []float64{-1, 0, .5, 1, 3.9, 4} {
		many.Observe(v)
		few.Observe(v)
	}
	for _, name := range []string{"many", "few"} {
		pageHas(t, r, name+`_bucket{le="0"} 2`, name+`_bucket{le="1"} 4`, name+`_bucket{le="3"} 4`, name+`_bucket{le="4"} 6`)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	s := r.NewSummary("s_bytes", "S.", nil)
	s.Observe(-1.5)
	s.Observe(4)
	s.ObserveSince(time.Now())
	if s.Count() != 3 || s.Sum() < 2.5 || s.Sum() > 60 {
		t.Errorf("count %d, sum %v", s.Count(), s.Sum())
	}
	pageHas(t, r, "# TYPE s_bytes summary", "s_bytes_count 3")
}

// If a timed function panics, the panic propagates and its duration is counted.
func TestObserveSincePanic(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	h := r.NewHistogram("h", "H.", nil)
	func() {
		defer func() {
			if p := recover(); p != "oops" {
				t.Errorf("got panic %v", p)
			}
		}()
		defer h.ObserveSince(time.Now())
		panic("oops")
	}()
	if h.Count() != 1 {
		t.Error("not counted")
	}
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	equal := func(got, want []float64) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range got {
			if math.Abs(got[i]-want[i]) > 1e-12 {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
	equal(gotheus.LinearBuckets(-1, .5, 4), []float64{-1, -.5, 0, .5})
	equal(gotheus.ExponentialBuckets(.001, 10, 4), []float64{.001, .01, .1, 1})
	equal(gotheus.DefaultBuckets(), []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10})
	for name, f := range map[string]func(){
		"linear none":      func() { gotheus.LinearBuckets(0, 1, 0) },
		"linear width":     func() { gotheus.LinearBuckets(0, 0, 3) },
		"linear NaN":       func() { gotheus.LinearBuckets(0, nan, 3) },
		"linear infinite":  func() { gotheus.LinearBuckets(0, 1e308, 3) },
		"exponential none": func() { gotheus.ExponentialBuckets(1, 2, 0) },
		"exponential zero": func() { gotheus.ExponentialBuckets(0, 2, 3) },
		"exponential one":  func() { gotheus.ExponentialBuckets(1, 1, 3) },
		"exponential huge": func() { gotheus.ExponentialBuckets(1, 1e200, 3) },
	} {
		if err := panicOf(f); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), "Buckets(") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Updates and look-ups of existing label sets do not allocate.
func TestAllocations(t *testing.T) {
	// No sampling, which would allocate, happens during the test.
	r, _ := newRegistry(t, &gotheus.RegistryOptions{SampleInterval: time.Hour})
	check := func(where string) {
		c, g, h, s := r.NewCounter("c_total", "C.", nil), r.NewGauge("g", "G.", nil), r.NewHistogram("h", "H.", nil), r.NewSummary("s", "S.", nil)
		v := r.NewCounterVec("v_total", "V.", nil, "method", "code")
		u := r.NewCounterVec("v_total", "V.", nil, "code", "method")
		labels := gotheus.Labels{"method": "GET", "code": "200"}
		path := []byte("/some/path")
		v.With(string(path), "200")
		for name, f := range map[string]func(){
			"Inc":        c.Inc,
			"Add":        func() { c.Add(2) },
			"Add float":  func() { c.Add(2.5) },
			"Set":        func() { g.Set(1) },
			"Gauge.Add":  func() { g.Add(1) },
			"Observe":    func() { h.Observe(1) },
			"Summary":    func() { s.Observe(1) },
			"With":       func() { v.With("GET", "200").Inc() },
			"With order": func() { u.With("200", "GET").Inc() },
			"WithLabels": func() { v.WithLabels(labels).Inc() },
			// Does not escape.
			"With bytes": func() { v.With(string(path), "200").Inc() },
			"TryWith": func() {
				if m, err := v.TryWith("GET", "200"); err == nil {
					m.Inc()
				}
			},
		} {
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%s: %s allocates %v times", where, name, n)
			}
		}
	}
	check("heap")
	bind(t, r, shmURL(t))
	page(t, r) // the first sampling is over
	check("shm")
}
