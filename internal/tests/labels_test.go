package tests_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
)

type normalizers = map[string]func(string) string

// everywhere runs f with a registry in the heap and one in shared memory.
func everywhere(t *testing.T, f func(t *testing.T, r *gotheus.Registry, log *testLog)) {
	t.Helper()
	for _, where := range []string{"heap", "shm"} {
		t.Run(where, func(t *testing.T) {
			r, log := newRegistry(t, nil)
			if where == "shm" {
				bind(t, r, shmURL(t))
			}
			f(t, r, log)
		})
	}
}

func panicOf(f func()) (err error) {
	defer func() { err, _ = recover().(error) }()
	f()
	return nil
}

// isErr fails the test unless err wraps sentinel and its text contains all parts.
func isErr(t *testing.T, err, sentinel error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !errors.Is(err, sentinel) || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %v with %q", err, sentinel, part)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		o := &gotheus.CounterOptions{Defaults: gotheus.Labels{"region": "eu", "zone": "a"}}
		v := r.NewCounterVec("v_total", "V.", o, "region", "method", "zone")
		o.Defaults["region"] = "changed later"
		get := v.With("GET")
		plain := r.NewCounterVec("v_total", "V.", nil, "region", "method", "zone")
		for name, m := range map[string]*gotheus.Counter{
			"without defaults":     plain.With("eu", "GET", "a"),
			"by name":              v.WithLabels(gotheus.Labels{"method": "GET"}),
			"overridden by itself": v.WithLabels(gotheus.Labels{"method": "GET", "region": "eu", "zone": "a"}),
			"one of two":           v.WithLabels(gotheus.Labels{"method": "GET", "zone": "a"}),
		} {
			if m != get {
				t.Errorf("%s: another series", name)
			}
		}
		// With two defaults, setting one label keeps the other's default.
		v.WithLabels(gotheus.Labels{"method": "PUT", "zone": "b"}).Add(2)
		v.WithLabels(gotheus.Labels{"method": "PUT", "region": "us"}).Add(3)
		get.Inc()
		pageHas(t, r, `v_total{method="GET",region="eu",zone="a"} 1`, `v_total{method="PUT",region="eu",zone="b"} 2`, `v_total{method="PUT",region="us",zone="a"} 3`)

		all := r.NewGaugeVec("all", "A.", &gotheus.GaugeOptions{Defaults: gotheus.Labels{"x": "1"}}, "x")
		all.With().Inc()
		pageHas(t, r, `all{x="1"} 1`)

		// Each Vec of a family has its own normalisers.
		us := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{Defaults: gotheus.Labels{"region": "us"}}, "region", "method", "zone")
		if us.With("GET", "a") == get || us.With("PUT", "a") != plain.With("us", "PUT", "a") {
			t.Error("wrong series with other defaults")
		}
	})
}

func TestPartial(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		v := r.NewHistogramVec("v", "V.", nil, "a", "b", "c")
		want := v.With("1", "2", "3")
		ab := v.Partial(gotheus.Labels{"a": "1"}).Partial(gotheus.Labels{"b": "2"})
		for name, m := range map[string]*gotheus.Histogram{
			"chained":         ab.With("3"),
			"at once":         v.Partial(gotheus.Labels{"a": "1", "b": "2"}).With("3"),
			"other order":     v.Partial(gotheus.Labels{"c": "3"}).Partial(gotheus.Labels{"a": "1"}).With("2"),
			"complete":        ab.Partial(gotheus.Labels{"c": "3"}).With(),
			"overridden":      v.Partial(gotheus.Labels{"a": "9", "b": "2"}).Partial(gotheus.Labels{"a": "1"}).With("3"),
			"nothing":         v.Partial(nil).With("1", "2", "3"),
			"by name":         ab.WithLabels(gotheus.Labels{"c": "3"}),
			"by name, others": v.Partial(gotheus.Labels{"a": "9"}).WithLabels(gotheus.Labels{"a": "1", "b": "2", "c": "3"}),
		} {
			if m != want {
				t.Errorf("%s: another series", name)
			}
		}
		if v.With("1", "2", "3") != want || len(strings.Split(page(t, r), "_sum")) != 2 {
			t.Errorf("partials made series or changed their origin: %s", page(t, r))
		}
	})
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		calls := 0
		o := &gotheus.CounterOptions{
			Normalize: normalizers{"method": gotheus.OneOf("GET", "PUT"), "path": strings.ToLower, "x": func(s string) string { calls++; return s + "!" }},
			Defaults:  gotheus.Labels{"path": "/ROOT", "x": "d"},
		}
		v := r.NewCounterVec("v_total", "V.", o, "x", "path", "method")
		v.With("GET").Inc()
		v.WithLabels(gotheus.Labels{"method": "get", "path": "/A"}).Inc()
		v.Partial(gotheus.Labels{"path": "/B", "x": "p"}).With("PUT").Inc()
		v.Partial(gotheus.Labels{"method": "nonsense"}).Partial(gotheus.Labels{"path": "/b"}).With().Inc()
		v.Declare(gotheus.Labels{"method": "DELETE", "path": "/C"})
		if calls != 2 { // the results for known values are cached
			t.Errorf("%d calls of a normaliser", calls)
		}
		pageHas(t, r, `v_total{method="GET",path="/root",x="d!"} 1`, `v_total{method="other",path="/a",x="d!"} 1`,
			`v_total{method="PUT",path="/b",x="p!"} 1`, `v_total{method="other",path="/b",x="d!"} 1`, `v_total{method="other",path="/c",x="d!"} 0`)
	})
}

func TestOneOf(t *testing.T) {
	t.Parallel()
	many := strings.Split("a b c d e f g h i j k l m", " ")
	for _, values := range [][]string{nil, {"a"}, many} {
		f := gotheus.OneOf(values...)
		for _, s := range []string{"a", "m", "", "other", "z"} {
			want := "other"
			if slices.Contains(values, s) {
				want = s
			}
			if got := f(s); got != want {
				t.Errorf("OneOf(%q)(%q) is %q, want %q", values, s, got, want)
			}
		}
	}
}

func TestDeclare(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	o := &gotheus.CounterOptions{Defaults: gotheus.Labels{"b": "d"}, MaxSeries: 1}
	v := r.NewCounterVec("v_total", "V.", o, "a", "b").Declare(gotheus.Labels{"a": "1"}, gotheus.Labels{"a": "2", "b": "3"})
	v.Declare().Partial(gotheus.Labels{"a": "p"}).Declare(nil)
	want := "# HELP v_total V.\n# TYPE v_total counter\n" +
		`v_total{a="1",b="d"} 0` + "\n" + `v_total{a="2",b="3"} 0` + "\n" + `v_total{a="p",b="d"} 0` + "\n"
	if got := page(t, r); got != want {
		t.Errorf("got %s", got)
	}
	bind(t, r, shmURL(t))
	if got := page(t, r); got != want {
		t.Errorf("after binding: %s", got)
	}
	isErr(t, panicOf(func() { v.Declare(gotheus.Labels{"a": "x"}, gotheus.Labels{"b": "x"}) }), gotheus.ErrLabels, `"a" is missing`)
	isErr(t, panicOf(func() { v.Declare(gotheus.Labels{"a": "x"}, gotheus.Labels{"a": "\xff"}) }), gotheus.ErrLabels, `value "\xff" of label "a"`)
	if got := page(t, r); got != want {
		t.Errorf("a refused declaration made series: %s", got)
	}
	v.With("1").Inc()
	pageHas(t, r, `v_total{a="1",b="d"} 1`)
}

// Too few values panic with a clear message. A peer panics with an index out of range if the vector
// is curried and has constraints.
func TestTooFewValues(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{Normalize: normalizers{"b": strings.ToLower}, Defaults: gotheus.Labels{"d": "1"}}, "a", "b", "c", "d")
	p := v.Partial(gotheus.Labels{"a": "1"})
	for name, values := range map[string][]string{"none": nil, "one": {"x"}, "three": {"x", "y", "z"}, "four": {"w", "x", "y", "z"}} {
		_, err := p.TryWith(values...)
		isErr(t, err, gotheus.ErrLabels, `v_total has labels ["a" "b" "c" "d"], of which With takes ["b" "c"], but`, "the values given are")
		isErr(t, panicOf(func() { p.With(values...) }), gotheus.ErrLabels, `["b" "c"]`)
		if err == nil {
			t.Error(name)
		}
	}
	for want, err := range map[string]error{
		`"b" is missing, "c" is missing`:         second(p.TryWithLabels(nil)),
		`"c" is missing, "e" is not one of them`: second(p.TryWithLabels(gotheus.Labels{"b": "1", "e": "1"})),
		`"e" is not one of them`:                 second(v.TryPartial(gotheus.Labels{"e": "1", "a": "1"})),
		`"x" is not one of them`:                 panicOf(func() { v.Partial(gotheus.Labels{"x": "1"}) }),
	} {
		isErr(t, err, gotheus.ErrLabels, want, "v_total")
	}
	if strings.Contains(page(t, r), "v_total{") {
		t.Error("a refused look-up made a series")
	}
}

func TestInvalidLabelOptions(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"env": "prod"}, Prefix: "p_"})
	vec := func(o gotheus.CounterOptions) error {
		_, err := gotheus.TryNewVec[gotheus.Histogram](r, "v", "V.", &gotheus.HistogramOptions{Defaults: o.Defaults, Normalize: o.Normalize}, "a", "b")
		return err
	}
	for want, err := range map[string]error{
		`p_v: Defaults: "c" is not one of its labels ["a" "b"]`:  vec(gotheus.CounterOptions{Defaults: gotheus.Labels{"c": "1"}}),
		`p_v: Defaults: "env" is not one of its labels`:          vec(gotheus.CounterOptions{Defaults: gotheus.Labels{"env": "1"}}),
		`p_v: Normalize: "c" is not one of its labels ["a" "b"]`: vec(gotheus.CounterOptions{Normalize: normalizers{"c": strings.ToLower}}),
		`p_v: Normalize: the function for label "a" is nil`:      vec(gotheus.CounterOptions{Normalize: normalizers{"a": nil}}),
		`p_v: Defaults: value "\xff" of label "a" is not UTF-8`:  vec(gotheus.CounterOptions{Defaults: gotheus.Labels{"a": "\xff"}}),
		`p_c: Defaults: "a" is not one of its labels []`:         second(gotheus.TryNew[gotheus.Counter](r, "c", "C.", &gotheus.CounterOptions{Defaults: gotheus.Labels{"a": "1"}})),
		`p_g: Normalize: "a" is not one of its labels`:           second(gotheus.TryNew[gotheus.Gauge](r, "g", "C.", &gotheus.GaugeOptions{Normalize: normalizers{"a": strings.ToLower}})),
		`p_s: Defaults: "a" is not one of its labels`:            second(gotheus.TryNew[gotheus.Summary](r, "s", "C.", &gotheus.SummaryOptions{Defaults: gotheus.Labels{"a": ""}})),
		`p_s: Defaults: "b" is not one of its labels ["a"]`:      second(gotheus.TryNewVec[gotheus.Summary](r, "s", "C.", &gotheus.SummaryOptions{Defaults: gotheus.Labels{"b": ""}}, "a")),
	} {
		isErr(t, err, gotheus.ErrInvalid, want)
	}
	if got := page(t, r); got != "" {
		t.Errorf("refused families are on the page: %s", got)
	}
	bad := gotheus.CounterOptions{Defaults: gotheus.Labels{"a": "1"}, Normalize: normalizers{"a": func(string) string { return "\xff" }}}
	isErr(t, vec(bad), gotheus.ErrInvalid, `value "\xff" of label "a" is not UTF-8`, "Defaults")
}

// A family has more labels than look-ups have room for on the stack.
func TestManyLabels(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	names := strings.Split("j i h g f e d c b a", " ")
	values := strings.Split("0 1 2 3 4 5 6 7 8 9", " ")
	v := r.NewCounterVec("v_total", "V.", nil, names...)
	l := gotheus.Labels{}
	for i, name := range names {
		l[name] = values[i]
	}
	m := v.With(values...)
	o := &gotheus.CounterOptions{Normalize: normalizers{"a": strings.ToLower}, Defaults: gotheus.Labels{"j": "0"}}
	if v.WithLabels(l) != m || v.Partial(gotheus.Labels{"j": "0"}).With(values[1:]...) != m || r.NewCounterVec("v_total", "V.", o, names...).With(values[1:]...) != m {
		t.Error("other series")
	}
	pageHas(t, r, `v_total{a="9",b="8",c="7",d="6",e="5",f="4",g="3",h="2",i="1",j="0"} 0`)
}
