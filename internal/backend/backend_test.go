package backend_test

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/backend"
)

func TestFamilyCheck(t *testing.T) {
	t.Parallel()
	ok := backend.Family{Name: "a_seconds", Help: "A.", Kind: backend.Histogram, Unit: "seconds", Labels: []string{"x", "y"}, Buckets: []float64{-1, 0, 1}}
	if err := ok.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(f *backend.Family){
		`name ""`:                     func(f *backend.Family) { f.Name = "" },
		`name "a\nb"`:                 func(f *backend.Family) { f.Name = "a\nb" },
		`name "\x7f"`:                 func(f *backend.Family) { f.Name = "\x7f" },
		`name "\xc3"`:                 func(f *backend.Family) { f.Name = "\xc3" },
		"a histogram has no mode sum": func(f *backend.Family) { f.Mode = backend.Sum },
		"kind(0)":                     func(f *backend.Family) { f.Kind = 0 },
		"kind(9)":                     func(f *backend.Family) { f.Kind = 9 },
		"not UTF-8":                   func(f *backend.Family) { f.Help = "\xff" },
		`unit "bytes"`:                func(f *backend.Family) { f.Unit = "bytes" },
		`unit "a_seconds"`:            func(f *backend.Family) { f.Unit = "a_seconds" },
		`label "__x"`:                 func(f *backend.Family) { f.Labels = []string{"__x"} },
		`label "le"`:                  func(f *backend.Family) { f.Labels = []string{"le"} },
		`label "quantile"`:            func(f *backend.Family) { f.Kind, f.Buckets, f.Labels = backend.Summary, nil, []string{"quantile"} },
		`label "a\tb"`:                func(f *backend.Family) { f.Labels = []string{"a\tb"} },
		`label ""`:                    func(f *backend.Family) { f.Labels = []string{""} },
		`label "x" is given twice`:    func(f *backend.Family) { f.Labels = []string{"x", "x"} },
		"not in ascending order":      func(f *backend.Family) { f.Labels = []string{"y", "x"} },
		"a counter has no buckets":    func(f *backend.Family) { f.Kind = backend.Counter },
		"bucket 1 is NaN":             func(f *backend.Family) { f.Buckets = []float64{1, math.NaN()} },
		"bucket 0 is +Inf":            func(f *backend.Family) { f.Buckets = []float64{math.Inf(1)} },
		"bucket 0 is -Inf":            func(f *backend.Family) { f.Buckets = []float64{math.Inf(-1)} },
		"bucket 2 is given twice":     func(f *backend.Family) { f.Buckets = []float64{1, 2, 2} },
		"schema 9":                    func(f *backend.Family) { f.Native = &backend.Native{Schema: 9, MaxBuckets: 1} },
		"0 exponential buckets":       func(f *backend.Family) { f.Native = new(backend.Native) },
		"cannot have quantiles":       func(f *backend.Family) { f.Sketch = new(backend.Sketch) },
		"has no block":                func(f *backend.Family) { f.Block = backend.Block{Role: backend.BucketRole, Size: 128} },
		"has no block {9":             func(f *backend.Family) { f.Block.Role = 9 },
		"bucket 1 comes after 2":      func(f *backend.Family) { f.Buckets = []float64{2, 1} },
		"a counter has no mode mean":  func(f *backend.Family) { f.Kind, f.Buckets, f.Mode = backend.Counter, nil, backend.Mean },
		"a untyped has no mode":       func(f *backend.Family) { f.Kind, f.Buckets = backend.Untyped, nil },
		"quantiles [0.5 0.5]": func(f *backend.Family) {
			f.Kind, f.Buckets, f.Mode = backend.Summary, []float64{.5, .5}, backend.PerInstance
		},
		"a summary has no buckets": func(f *backend.Family) { f.Kind = backend.Summary },
		"something before _total":  func(f *backend.Family) { f.Name, f.Kind, f.Buckets = "_total", backend.Counter, nil },
		"something before _info":   func(f *backend.Family) { f.Name, f.Kind, f.Buckets = "_info", backend.Info, nil; f.Mode = backend.Max },
		"must end in _info":        func(f *backend.Family) { f.Kind, f.Buckets, f.Mode = backend.Info, nil, backend.Max },
		"has no states":            func(f *backend.Family) { f.States = []string{"a"} },
		"needs states":             func(f *backend.Family) { f.Kind, f.Buckets = backend.StateSet, nil },
		`state "on" is given twice`: func(f *backend.Family) {
			f.Kind, f.Buckets, f.States = backend.StateSet, nil, []string{"on", "off", "on"}
		},
		`state ""`: func(f *backend.Family) { f.Kind, f.Buckets, f.States = backend.StateSet, nil, []string{""} },
		"54 states": func(f *backend.Family) {
			f.Kind, f.Buckets, f.States = backend.StateSet, nil, make([]string, 54)
		},
		"must not have a colon": func(f *backend.Family) {
			f.Kind, f.Buckets, f.States, f.Name = backend.StateSet, nil, []string{"on"}, "a:b_seconds"
		},
		`label "a_seconds" is reserved in a state set`: func(f *backend.Family) {
			f.Kind, f.Buckets, f.States, f.Labels = backend.StateSet, nil, []string{"on"}, []string{"a_seconds"}
		},
	} {
		f := ok
		change(&f)
		err := f.Check()
		if !errors.Is(err, backend.ErrFamily) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if f.Name == ok.Name && !strings.Contains(err.Error(), f.Name) {
			t.Errorf("%v does not name the metric", err)
		}
	}
}

func TestSchema(t *testing.T) {
	t.Parallel()
	base := backend.Family{Name: "a_seconds", Help: "A.", Kind: backend.Histogram, Unit: "seconds", Labels: []string{"x", "y"}, Buckets: []float64{-1, 0, 1.5}}
	seen := map[string]string{}
	for name, change := range map[string]func(f *backend.Family){
		"base":         func(f *backend.Family) {},
		"name":         func(f *backend.Family) { f.Name = "b_seconds" },
		"kind":         func(f *backend.Family) { f.Kind, f.Buckets = backend.Gauge, nil },
		"mode":         func(f *backend.Family) { f.Kind, f.Buckets, f.Mode = backend.Gauge, nil, backend.Max },
		"unit":         func(f *backend.Family) { f.Unit = "" },
		"labels":       func(f *backend.Family) { f.Labels = []string{"x"} },
		"label":        func(f *backend.Family) { f.Labels = []string{"x", "z"} },
		"buckets":      func(f *backend.Family) { f.Buckets = []float64{-1, 0} },
		"states":       func(f *backend.Family) { f.Kind, f.Buckets, f.States = backend.StateSet, nil, []string{"on", "off"} },
		"order":        func(f *backend.Family) { f.Kind, f.Buckets, f.States = backend.StateSet, nil, []string{"off", "on"} },
		"per instance": func(f *backend.Family) { f.Mode = backend.PerInstance },
		"quantiles": func(f *backend.Family) {
			f.Kind, f.Buckets, f.Mode = backend.Summary, []float64{0, .5, 1}, backend.PerInstance
		},
	} {
		f := base
		change(&f)
		schema := f.Schema()
		if other, ok := seen[schema]; ok {
			t.Errorf("%s and %s have the same schema", name, other)
		}
		seen[schema] = name
		again, err := backend.ParseSchema(schema)
		if f.Help = ""; err != nil || !reflect.DeepEqual(*again, f) {
			t.Errorf("%s: got %+v, %v", name, again, err)
		}
	}
	help := base
	help.Help = "other"
	if help.Schema() != base.Schema() {
		t.Error("help is part of the schema")
	}
}

func FuzzParseSchema(f *testing.F) {
	fam := backend.Family{Name: "a_seconds", Kind: backend.Histogram, Unit: "seconds", Labels: []string{"x", "y"}, Buckets: []float64{-1, 0, 1.5}}
	f.Add(fam.Schema())
	f.Add("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a")
	f.Add("\x01\x01a\x02\x01\x01\x07\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if fam, err := backend.ParseSchema(s); err == nil && fam.Schema() != s {
			t.Errorf("%q comes back as %q", s, fam.Schema())
		}
	})
}

func TestLabelText(t *testing.T) {
	t.Parallel()
	f := backend.Family{Name: "a", Kind: backend.Counter, Labels: []string{"x", "y"}}
	for want, values := range map[string][]string{
		`x="1",y="2"`:            {"1", "2"},
		`x="",y=""`:              {"", ""},
		`x="a\\b\"c\nd",y="é,="`: {"a\\b\"c\nd", "é,="},
		`x="\\n",y="\\\\"`:       {`\n`, `\\`},
	} {
		text, err := f.LabelText(values...)
		if err != nil || text != want {
			t.Errorf("%q: got %s, %v", values, text, err)
		}
		if got, err := f.LabelValues(text); err != nil || !slices.Equal(got, values) {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
	for _, values := range [][]string{nil, {"1"}, {"1", "2", "3"}, {"1", "\xff"}} {
		if _, err := f.LabelText(values...); !errors.Is(err, backend.ErrFamily) {
			t.Errorf("%q: got %v", values, err)
		}
	}
	for _, text := range []string{"", `x="1"`, `x="1",y="2",`, `y="1",x="2"`, `x="1"y="2"`, `x="1",y="2`, `x="1",y="\q"`, `x="1",y="2",z="3"`, `x="1",y="` + "\n" + `"`} {
		if v, err := f.LabelValues(text); !errors.Is(err, backend.ErrFamily) {
			t.Errorf("%s: got %q, %v", text, v, err)
		}
	}
}

func FuzzLabels(f *testing.F) {
	f.Add("a", "b\\", `x="1",y="\\"`)
	f.Add("\n\"", "", `x="1",y="2",`)
	fam := backend.Family{Name: "a", Kind: backend.Counter, Labels: []string{"x", "y"}}
	f.Fuzz(func(t *testing.T, x, y, text string) {
		if s, err := fam.LabelText(x, y); err == nil {
			if v, err := fam.LabelValues(s); err != nil || v[0] != x || v[1] != y {
				t.Errorf("%q, %q: got %q, %v", x, y, v, err)
			}
		} else if utf8.ValidString(x + "," + y) {
			t.Errorf("%q, %q: %v", x, y, err)
		}
		if v, err := fam.LabelValues(text); err == nil {
			if s, err := fam.LabelText(v...); err != nil || s != text {
				t.Errorf("%q comes back as %q, %v", text, s, err)
			}
		}
	})
}

func TestSortLabels(t *testing.T) {
	t.Parallel()
	sorted, place := backend.SortLabels([]string{"c", "a", "b"})
	if !slices.Equal(sorted, []string{"a", "b", "c"}) || !slices.Equal(place, []int{1, 2, 0}) {
		t.Errorf("got %q, %v", sorted, place)
	}
}

func TestSeals(t *testing.T) {
	t.Parallel()
	for _, f := range []*backend.Family{
		{Kind: backend.Counter}, {Kind: backend.Gauge}, {Kind: backend.Summary}, {Kind: backend.Gauge, Mode: backend.Latest},
		{Kind: backend.Histogram, Buckets: []float64{1, 2}},
	} {
		w := make(backend.Words, f.Words())
		for i := range w {
			w[i].Store(uint64(i + 1))
		}
		if f.Sealed(w) || !f.Seal(w) || f.Seal(w) || !f.Sealed(w) {
			t.Errorf("%v: wrong answers", f.Kind)
		}
		for i := range w { // a late update
			if w[i].Load() == backend.SealedInt {
				w[i].Add(3)
			}
		}
		if !f.Sealed(w) {
			t.Errorf("%v: a late update has broken a seal", f.Kind)
		}
		f.Unseal(w)
		if f.Sealed(w) || w[0].Load() != 0 {
			t.Errorf("%v: still sealed", f.Kind)
		}
		w[0].Store(5)
		if f.Unseal(w); w[0].Load() != 5 {
			t.Errorf("%v: a live word was changed", f.Kind)
		}
	}
}
