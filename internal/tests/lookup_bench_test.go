package tests_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

const benchSeries = 100

// benchValues are label values as they are typical of services.
func benchValues() [][2]string {
	methods := []string{"GET", "PUT", "POST", "DELETE"}
	values := make([][2]string, benchSeries)
	for i := range values {
		values[i] = [2]string{methods[i%len(methods)], fmt.Sprintf("/api/v1/route/%d", i)}
	}
	return values
}

// Look-ups of 100 series in turn, with Inc.
func BenchmarkLookUp(b *testing.B) {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	values := benchValues()
	c := r.NewCounter("c_total", "C.", nil)
	b.Run("Inc alone", func(b *testing.B) {
		for range b.N {
			c.Inc()
		}
	})
	one := r.NewCounterVec("one_total", "V.", nil, "path")
	two := r.NewCounterVec("two_total", "V.", nil, "method", "path")
	swapped := r.NewCounterVec("two_total", "V.", nil, "path", "method")
	four := r.NewCounterVec("four_total", "V.", nil, "a", "method", "path", "z")
	b.Run("With, 1 label", func(b *testing.B) {
		for i := range b.N {
			one.With(values[i%benchSeries][1]).Inc()
		}
	})
	b.Run("With, 2 labels", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			two.With(v[0], v[1]).Inc()
		}
	})
	b.Run("With, 2 labels in other order", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			swapped.With(v[1], v[0]).Inc()
		}
	})
	b.Run("With, 4 labels", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			four.With("eu", v[0], v[1], "200").Inc()
		}
	})
	maps := make([]gotheus.Labels, benchSeries)
	for i, v := range values {
		maps[i] = gotheus.Labels{"method": v[0], "path": v[1]}
	}
	b.Run("WithLabels, 2 labels", func(b *testing.B) {
		for i := range b.N {
			two.WithLabels(maps[i%benchSeries]).Inc()
		}
	})
	b.Run("With, 2 labels, always the same", func(b *testing.B) {
		for range b.N {
			two.With("GET", "/api/v1/route/0").Inc()
		}
	})
}

type benchLabels struct{ Method, Path string }

type benchMixed struct {
	Path  string
	Code  int
	Cache bool
	Month time.Month // has a method String
}

func BenchmarkTyped(b *testing.B) {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	values := benchValues()
	structs := make([]benchLabels, benchSeries)
	mixed := make([]benchMixed, benchSeries)
	for i, v := range values {
		structs[i] = benchLabels{v[0], v[1]}
		mixed[i] = benchMixed{v[1], 200 + i%5, i%2 == 0, time.March}
	}
	two := r.NewCounterVec("two_total", "V.", nil, "method", "path")
	typed := gotheus.Must(gotheus.TryNewVecOf[benchLabels, gotheus.Counter](r, "two_total", "V.", nil))
	four := gotheus.Must(gotheus.TryNewVecOf[benchMixed, gotheus.Counter](r, "four_total", "V.", nil))
	b.Run("With of 2 values", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			two.With(v[0], v[1]).Inc()
		}
	})
	b.Run("With of a struct of 2 strings", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			typed.With(benchLabels{v[0], v[1]}).Inc()
		}
	})
	b.Run("With of a struct of string, int, bool and Stringer", func(b *testing.B) {
		for i := range b.N {
			four.With(mixed[i%benchSeries]).Inc()
		}
	})
	partial := gotheus.Partial(typed, func(path string) benchLabels { return benchLabels{"GET", path} })
	b.Run("With of a partial", func(b *testing.B) {
		for i := range b.N {
			partial.With(values[i%benchSeries][1]).Inc()
		}
	})
	full := gotheus.Must(gotheus.TryNewVecOf[benchMixed, gotheus.Counter](r, "full_total", "V.", &gotheus.CounterOptions{MaxSeries: 1}))
	full.With(mixed[0])
	b.Run("overflow by struct", func(b *testing.B) {
		for i := range b.N {
			full.With(mixed[1+i%(benchSeries-1)]).Inc()
		}
	})
}

func BenchmarkOtherLookUps(b *testing.B) {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	values := benchValues()
	two := r.NewCounterVec("two_total", "V.", nil, "method", "path")
	partial := two.Partial(gotheus.Labels{"method": "GET"})
	b.Run("With of a partial", func(b *testing.B) {
		for i := range b.N {
			partial.With(values[i%benchSeries][1]).Inc()
		}
	})
	normal := r.NewCounterVec("normal_total", "V.", &gotheus.CounterOptions{Normalize: map[string]func(string) string{
		"method": gotheus.OneOf("GET", "PUT", "POST"),
	}}, "method", "path")
	b.Run("With and OneOf", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			normal.With(v[0], v[1]).Inc()
		}
	})
	full := r.NewCounterVec("full_total", "V.", &gotheus.CounterOptions{MaxSeries: 1}, "method", "path")
	full.With("", "")
	b.Run("overflow", func(b *testing.B) {
		for i := range b.N {
			v := &values[i%benchSeries]
			full.With(v[0], v[1]).Inc()
		}
	})
}

// BenchmarkLookupNew looks up new label sets, in a family with up to 10,000 of them.
func BenchmarkNewLabelSet(b *testing.B) {
	values := make([]string, 10_000)
	for i := range values {
		values[i] = fmt.Sprintf("/api/v1/route/%d", i)
	}
	b.ReportAllocs()
	var v *gotheus.Vec[gotheus.Counter]
	for i := range b.N {
		if i%len(values) == 0 {
			r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet, MaxSeries: -1, NoSelfMetrics: true})
			v = r.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
		}
		v.With("GET", values[i%len(values)]).Inc()
	}
}
