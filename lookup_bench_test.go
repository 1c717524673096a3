package gotheus_test

import (
	"fmt"
	"testing"

	"github.com/gotheus/gotheus"
)

const benchSeries = 100

// benchValues are label values as services have them.
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
	r := new(gotheus.Registry)
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
	b.Run("With, 2 labels, always the same", func(b *testing.B) {
		for range b.N {
			two.With("GET", "/api/v1/route/0").Inc()
		}
	})
}
