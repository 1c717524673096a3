package tests_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/metrictest"
)

// Zero options return an existing family whatever its options are. A different value is a conflict,
// whose error has the metric, both values and a remedy.
func TestZeroOptionIsAsItIs(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	double := map[string]func(string) string{"l": func(s string) string { return s + s }}
	counter := &gotheus.CounterOptions{Unit: "bytes", TTL: time.Hour, MaxSeries: 7, Stripes: 4, Labels: gotheus.Labels{"pool": "a"},
		Defaults: gotheus.Labels{"l": "x"}, Normalize: double}
	c := r.NewCounterVec("c_kilo_bytes_total", "C.", counter, "l")
	gauge := &gotheus.GaugeOptions{Mode: gotheus.ModeMax}
	g := r.NewGauge("g", "G.", gauge)
	histogram := &gotheus.HistogramOptions{Buckets: []float64{1, 2}}
	h := r.NewHistogram("h", "H.", histogram)
	native := &gotheus.HistogramOptions{Buckets: []float64{1, 2}, Native: &gotheus.NativeOptions{Factor: 2, ZeroThreshold: .5, MaxBuckets: 20}}
	n := r.NewHistogram("n", "N.", native)
	summary := &gotheus.SummaryOptions{Objectives: []float64{.5}, RelativeError: .1, MaxAge: time.Hour, Slots: 3}
	s := r.NewSummary("s", "S.", summary)
	states := []string{"on", "off"}
	set := r.NewStateSet("state", "State.", states, &gotheus.StateSetOptions{Mode: gotheus.ModePerProcess})

	for _, o := range []*gotheus.CounterOptions{nil, {}, counter} {
		if r.NewCounterVec("c_kilo_bytes_total", "C.", o, "l").WithLabels(gotheus.Labels{"l": "xx"}) == nil {
			t.Error("no series")
		}
	}
	if again := r.NewCounterVec("c_kilo_bytes_total", "C.", nil, "l"); again.With("xx") != c.With() {
		t.Error("the family of a counter that is there is another one")
	}
	for _, o := range []*gotheus.GaugeOptions{nil, {}, gauge} {
		if r.NewGauge("g", "G.", o) != g {
			t.Error("a gauge that is there is another one")
		}
	}
	for _, o := range []*gotheus.HistogramOptions{nil, {}, histogram} {
		if r.NewHistogram("h", "H.", o) != h {
			t.Error("a histogram that is there is another one")
		}
	}
	for _, o := range []*gotheus.HistogramOptions{nil, {Native: new(gotheus.NativeOptions)}, {Native: &gotheus.NativeOptions{MaxBuckets: 20}}, {Buckets: []float64{1, 2}}, native} {
		if r.NewHistogram("n", "N.", o) != n {
			t.Error("a histogram with exponential buckets that is there is another one")
		}
	}
	for _, o := range []*gotheus.SummaryOptions{nil, {}, {Objectives: []float64{.5}}, {Objectives: []float64{.5}, Slots: 3}, {Slots: 3}, {MaxAge: time.Hour}, summary} {
		if r.NewSummary("s", "S.", o) != s {
			t.Error("a summary that is there is another one")
		}
	}
	if r.NewStateSet("state", "State.", states, nil) != set {
		t.Error("a state set that is there is another one")
	}
	r.NewHistogram("plain", "P.", &gotheus.HistogramOptions{Buckets: []float64{}})
	r.NewHistogram("plain", "P.", nil)
	r.NewSummary("sum", "S.", nil)

	tryCounter := func(o gotheus.CounterOptions) error {
		return second(gotheus.TryNewVec[gotheus.Counter](r, "c_kilo_bytes_total", "C.", &o, "l"))
	}
	tryHistogram := func(name, help string, o gotheus.HistogramOptions) error {
		return second(gotheus.TryNew[gotheus.Histogram](r, name, help, &o))
	}
	trySummary := func(o gotheus.SummaryOptions) error {
		return second(gotheus.TryNew[gotheus.Summary](r, "s", "S.", &o))
	}
	for want, err := range map[string]error{
		`c_kilo_bytes_total: it already has unit "bytes", not "kilo_bytes": use the same, or leave it out`: tryCounter(gotheus.CounterOptions{Unit: "kilo_bytes"}),
		`c_kilo_bytes_total: it already has a TTL of 1h0m0s, not 1m0s: use the same, or leave it out`:      tryCounter(gotheus.CounterOptions{TTL: time.Minute}),
		`c_kilo_bytes_total: it already has a TTL of 1h0m0s, not none`:                                     tryCounter(gotheus.CounterOptions{TTL: -1}),
		`c_kilo_bytes_total: it already has MaxSeries 7, not 8: use the same, or leave it out`:             tryCounter(gotheus.CounterOptions{MaxSeries: 8}),
		`c_kilo_bytes_total: it already has MaxSeries 7, not -1`:                                           tryCounter(gotheus.CounterOptions{MaxSeries: -1}),
		`c_kilo_bytes_total: it already has number of stripes 4, not 2`:                                    tryCounter(gotheus.CounterOptions{Stripes: 2}),
		`c_kilo_bytes_total: it already has the constant labels ["pool"], not ["pond"]: use the same`:      tryCounter(gotheus.CounterOptions{Labels: gotheus.Labels{"pond": "a"}}),
		`c_kilo_bytes_total: it already has unit "bytes", not "": use the same, or choose another name`:    tryCounter(gotheus.CounterOptions{Labels: gotheus.Labels{"pool": "b"}}),
		`g: it already has mode max, not sum`:                                                              second(gotheus.TryNew[gotheus.Gauge](r, "g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum})),
		`h: it already has buckets [1 2], not [1]`:                                                         tryHistogram("h", "H.", gotheus.HistogramOptions{Buckets: []float64{1}}),
		`h: it already has buckets [1 2], not []`:                                                          tryHistogram("h", "H.", gotheus.HistogramOptions{Buckets: []float64{}}),
		`h: it already has exponential buckets none, not {Factor: 1.0905`:                                  tryHistogram("h", "H.", gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}),
		`n: it already has exponential buckets {Factor: 2, ZeroThreshold: 0.5, MaxBuckets: 20}`:            tryHistogram("n", "N.", gotheus.HistogramOptions{Native: &gotheus.NativeOptions{MaxBuckets: 21}}),
		`not {Factor: 4,`:                                          tryHistogram("n", "N.", gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 4}}),
		`n: it already has buckets [1 2], not []`:                  tryHistogram("n", "N.", gotheus.HistogramOptions{Buckets: []float64{}}),
		`s: it already has quantiles [0.5] over 1h0m0s in 3 slots`: trySummary(gotheus.SummaryOptions{Objectives: []float64{.5}, MaxAge: time.Minute}),
		`s: it already has quantiles [0.5] over 1h0m0s in 3 slots, 4 buckets per doubling, not [0.5] over 1m0s`: trySummary(gotheus.SummaryOptions{MaxAge: time.Minute}),
		`, not [0.9] over`:               trySummary(gotheus.SummaryOptions{Objectives: []float64{.9}}),
		`buckets per doubling, not none`: trySummary(gotheus.SummaryOptions{Objectives: []float64{}}),
		`state: it already has states ["on" "off"], not ["off" "on"]: use the same, or choose another name`: second(gotheus.TryNewStateSet(r, "state", "State.", []string{"off", "on"}, nil)),
	} {
		isErr(t, err, gotheus.ErrConflict, want)
	}
}

// For a new family, zero options are the defaults, such as the registry's.
func TestHiddenFamilyComesBackAsItWas(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	o := &gotheus.CounterOptions{TTL: time.Hour, MaxSeries: 1, Labels: gotheus.Labels{"pool": "a"}}
	c := r.NewCounterVec("c_total", "C.", o, "l")
	c.With("x").Inc()
	r.HideFamily("c_total")
	again := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: o.Labels}, "l")
	if again.With("x") != c.With("x") {
		t.Error("another series")
	}
	again.With("y").Inc() // the second series
	pageHas(t, r, `c_total{l="x",pool="a"} 1`, fmt.Sprintf(`c_total{l=%q,pool="a"} 1`, gotheus.OverflowValue))

	// The same schema with another value is another family.
	r.HideFamily("c_total")
	b := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: gotheus.Labels{"pool": "b"}}, "l")
	b.With("x").Add(2)
	pageHas(t, r, `c_total{l="x",pool="b"} 2`)
}

// A metric's constant labels are on all its series in any backend, including the overflow series.
// Look-ups do not take them, and deletion affects only series that have them.
func TestConstantLabelsOfOneMetric(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		pool := gotheus.Labels{"pool": "a\"b"}
		v := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: pool, MaxSeries: 1}, "z", "a")
		v.With("1", "2").Inc()
		v.With("3", "4").Inc()
		r.NewGauge("g", "G.", &gotheus.GaugeOptions{Labels: pool}).Set(3)
		r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Labels: pool, Buckets: []float64{1}}).Observe(2)
		r.NewSummary("s", "S.", &gotheus.SummaryOptions{Labels: pool}).Observe(4)
		r.NewStateSet("state", "State.", []string{"on"}, &gotheus.StateSetOptions{Labels: pool}).Set("on")
		r.NewGaugeFunc("f", "F.", &gotheus.GaugeOptions{Labels: pool, Mode: gotheus.ModeSum}, func() (float64, error) { return 5, nil })
		over := fmt.Sprintf(`c_total{a=%[1]q,pool="a\"b",z=%[1]q} 1`, gotheus.OverflowValue)
		pageHas(t, r, `c_total{a="2",pool="a\"b",z="1"} 1`, over, `g{pool="a\"b"} 3`, `h_bucket{pool="a\"b",le="1"} 0`,
			`s_sum{pool="a\"b"} 4`, `state{pool="a\"b",state="on"} 1`, `f{pool="a\"b"} 5`)
		if !v.Delete("1", "2") || v.DeleteAll() != 1 {
			t.Error("not deleted")
		}
	})
}

// Two programs of one backend that differ in a constant label's value: each deletes its own series.
func TestConstantLabelsOfTwoPrograms(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	vecs := map[string]*gotheus.CounterVec{}
	var last *gotheus.Registry
	for _, pool := range []string{"a", "b"} {
		r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, Labels: gotheus.Labels{"zone": "z"}})
		bind(t, r, url)
		vecs[pool] = r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: gotheus.Labels{"pool": pool}}, "l")
		vecs[pool].With("x").Inc()
		last = r
	}
	pageHas(t, last, `c_total{l="x",pool="a",zone="z"} 1`, `c_total{l="x",pool="b",zone="z"} 1`)
	if n := vecs["a"].DeleteAll(); n != 1 {
		t.Errorf("%d deleted", n)
	}
	if p := page(t, last); strings.Contains(p, `pool="a"`) || !strings.Contains(p, `c_total{l="x",pool="b",zone="z"} 1`) {
		t.Errorf("got %s", p)
	}
}

func TestInvalidConstantLabels(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"zone": "z"}})
	try := func(l gotheus.Labels) error {
		return second(gotheus.TryNewVec[gotheus.Histogram](r, "h", "H.", &gotheus.HistogramOptions{Labels: l}, "path"))
	}
	for want, err := range map[string]error{
		`h: Labels: "zone" is already a constant label of the registry, with the value "z"`: try(gotheus.Labels{"zone": "z"}),
		`h: Labels: "path" is one of its labels ["path"]`:                                   try(gotheus.Labels{"path": "/"}),
		`h: Labels: value "\xff" of label "pool" is not UTF-8`:                              try(gotheus.Labels{"pool": "\xff"}),
		`h: label "le" is reserved`:                                                         try(gotheus.Labels{"le": "1"}),
		`h: label "__x": names that begin with __ are reserved`:                             try(gotheus.Labels{"__x": "1"}),
		`h: label "": must be UTF-8`:                                                        try(gotheus.Labels{"": "1"}),
		`two of them become equal`:                                                          try(gotheus.Labels{"pa.th": "1", "pa_th": "2"}),
	} {
		isErr(t, err, gotheus.ErrInvalid, want)
	}
	// The map was copied: later changes by the caller have no effect.
	pool := gotheus.Labels{"pool": "a"}
	v := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: pool}, "l")
	pool["pool"] = "b"
	v.With("x").Inc()
	pageHas(t, r, `c_total{l="x",pool="a",zone="z"} 1`)
}

type pointerCollector struct{ n int }

func (c *pointerCollector) Collect(context.Context, *gotheus.Sink) error { c.n++; return nil }

type listCollector []string

func (listCollector) Collect(context.Context, *gotheus.Sink) error { return nil }

// Invalid arguments are errors that say what is wrong, rather than a nil dereference later.
func TestNilArguments(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Prefix: "p_"})
	type labels struct{ L string }
	of := gotheus.Must(gotheus.TryNewVecOf[labels, gotheus.Counter](r, "of_total", "O.", nil))
	p := new(gotheus.Probe)
	for want, f := range map[string]func(){
		"the collector is nil, of type <nil>":                     func() { r.Register(nil) },
		"the collector is nil, of type *tests_test.pointer":       func() { r.Register((*pointerCollector)(nil)) },
		"the collector is nil, of type gotheus.CollectorFunc":     func() { r.Register(gotheus.CollectorFunc(nil)) },
		"the collector is nil, of type gotheus.ProcessCollectorF": func() { gotheus.Register(gotheus.ProcessCollectorFunc(nil)) },
		"the registry is nil":                                     func() { gotheus.SetDefault(nil) },
		"p_c_total: the function is nil":                          func() { r.NewCounterFunc("c_total", "C.", nil, nil) },
		"p_g: the function is nil":                                func() { r.NewGaugeFunc("g", "G.", nil, nil) },
		"p_u: the function is nil":                                func() { r.NewUntypedFunc("u", "U.", nil, nil) },
		"p_state: a state set needs states":                       func() { r.NewStateSet("state", "S.", nil, nil) },
		"p_states: a state set needs states":                      func() { r.NewStateSetVec("states", "S.", []string{}, nil, "l") },
		"p_v_info: an info needs facts":                           func() { r.NewInfo("v_info", "V.", nil) },
		"p_of_total: Partial: the function is nil":                func() { gotheus.Partial[string](of, nil) },
		"Do of a Probe: the function is nil":                      func() { p.Do(nil) },
		"Run of a Probe: the function is nil":                     func() { p.Run(nil) },
		"Call of a Probe: the function is nil":                    func() { gotheus.Call[int](t.Context(), p, nil) },
		"LinearBuckets(0, 0, 1)":                                  func() { gotheus.LinearBuckets(0, 0, 1) },
		"ExponentialBuckets(1, 1, 1)":                             func() { gotheus.ExponentialBuckets(1, 1, 1) },
		"ExponentialBucketsRange(1, 2, 1)":                        func() { gotheus.ExponentialBucketsRange(1, 2, 1) },
		"ExponentialBucketsRange(0, 2, 2)":                        func() { gotheus.ExponentialBucketsRange(0, 2, 2) },
		"ExponentialBucketsRange(2, 2, 2)":                        func() { gotheus.ExponentialBucketsRange(2, 2, 2) },
		"ExponentialBucketsRange(1, +Inf, 2)":                     func() { gotheus.ExponentialBucketsRange(1, math.Inf(1), 2) },
		"BindBackend: the backend is nil":                         func() { gotheus.Must(0, r.BindBackend(t.Context(), (*heap.Backend)(nil))) },
		"p_c_total: help is missing":                              func() { r.NewCounter("c_total", "", nil) },
	} {
		isErr(t, panicOf(f), gotheus.ErrInvalid, want)
	}
	r.Register(listCollector(nil)) // a nil slice is a valid collector
	r.NewCounter("c_total", "C.", (*gotheus.CounterOptions)(nil))
	pageHas(t, r, "p_c_total 0")
}

func TestExponentialBucketsRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first, last float64
		n           int
		want        []float64
	}{
		{1, 16, 5, []float64{1, 2, 4, 8, 16}},
		{.1, 100, 4, []float64{.1, 1, 10, 100}},
		{5e-324, math.MaxFloat64, 2, []float64{5e-324, math.MaxFloat64}},
	} {
		got := gotheus.ExponentialBucketsRange(c.first, c.last, c.n)
		if got[0] != c.first || got[c.n-1] != c.last || !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*b }) {
			t.Errorf("%v: got %v", c, got)
		}
	}
	wide := gotheus.ExponentialBucketsRange(1e-300, 1e300, 1000)
	if !slices.IsSorted(wide) {
		t.Errorf("not ascending: %v", wide)
	}
}

// An untyped function behaves like a gauge's: it has a series for each process, and none while it
// fails.
func TestUntypedFunc(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	var registries []*gotheus.Registry
	broken := false
	for i := range 2 {
		r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
		remove := r.NewUntypedFunc("answer_celsius", "A.", &gotheus.UntypedOptions{Unit: "celsius", Labels: gotheus.Labels{"of": "x"}},
			func() (float64, error) {
				if broken {
					return 0, errors.New("out of luck")
				}
				return float64(i) - 1, nil
			})
		defer remove()
		metrictest.Compare(t, r, fmt.Sprintf("# HELP answer_celsius A.\n# TYPE answer_celsius untyped\nanswer_celsius{of=\"x\"} %d\n", i-1))
		var b strings.Builder
		r.Write(t.Context(), &b, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1}})
		if !strings.Contains(b.String(), "# TYPE answer_celsius unknown\n") || !strings.Contains(b.String(), "# UNIT answer_celsius celsius\n") {
			t.Errorf("OpenMetrics: %s", b.String())
		}
		registries = append(registries, r)
	}
	isErr(t, second(gotheus.TryNew[gotheus.Gauge](registries[0], "answer_celsius", "A.", nil)), gotheus.ErrConflict, "already of type untyped, not gauge")
	isErr(t, second(gotheus.TryNewUntypedFunc(registries[0], "gotheus_x", "X.", nil, nil)), gotheus.ErrInvalid, "reserved")
	for _, r := range registries {
		bind(t, r, url)
	}
	for _, r := range registries {
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range registries {
		if p := page(t, r); strings.Count(p, "\nanswer_celsius{") != 2 || strings.Count(p, backend.InstanceLabel+`="`) != 2 {
			t.Errorf("got %s", p)
		}
	}
}

func TestGaugeSub(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		g := r.NewGauge("g", "G.", nil)
		g.Set(5)
		g.Sub(7)
		g.Sub(-1.5)
		metrictest.Want(t, r, "g", -.5)
	})
}

// The aliases are identical to the types.
func TestVecAliases(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	var c *gotheus.CounterVec = r.NewCounterVec("c_total", "C.", nil, "l")
	var v *gotheus.Vec[gotheus.Counter] = c
	if v.With("x") != c.With("x") {
		t.Error("they differ")
	}
	s := gotheus.Must(gotheus.TryNewStateSetVec(r, "s", "S.", []string{"a", "b"}, nil, "l"))
	s.With("x").Set("b")
	type labels struct{ L string }
	of := gotheus.Must(gotheus.TryNewStateSetOf[labels](r, "s", "S.", []string{"a", "b"}, nil))
	if !of.With(labels{"x"}).Has("b") {
		t.Error("another state set")
	}
}
