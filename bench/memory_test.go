package main

import (
	"testing"

	"github.com/gotheus/gotheus"
)

// TestMemoryOfSeries: memory of a series, including label text and table. Bounds are a quarter
// above the measured values.
func TestMemoryOfSeries(t *testing.T) {
	const series = 10_000
	for _, c := range []struct {
		name       string
		histograms bool
		most       float64
	}{{"counter", false, 285}, {"histogram", true, 405}} {
		bytes, err := liveHeap(series, ourSeries(nil, c.histograms, true))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%.0f bytes per %s", bytes, c.name)
		if bytes > c.most {
			t.Errorf("%.0f bytes per %s, want at most %.0f", bytes, c.name, c.most)
		}
	}
}

// TestNewSeriesAllocate: a new label set allocates its entry, its label text and a share of growing
// tables.
func TestNewSeriesAllocate(t *testing.T) {
	const series = 10_000
	values := make([]string, series)
	for i := range values {
		_, values[i], _ = memoryValues(8 * i)
	}
	var v *gotheus.Vec[gotheus.Counter]
	c := contender{
		prepare: func(int) { v = new(env).heap().NewCounterVec("requests_total", "Requests.", nil, "method", "route") },
		run: func(n int) {
			for i := range n {
				v.With("GET", values[i]).Inc()
			}
		},
	}
	s := once(&c, &table{goroutines: 1}, series)
	if s.allocs > 2.5 || s.bytes > 330 {
		t.Errorf("a new label set takes %.1f allocations and %.0f bytes, want 2 and 265", s.allocs, s.bytes)
	}
}
