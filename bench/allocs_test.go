package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
)

// poolsDrop reports whether a sync.Pool drops some of its items.
var poolsDrop bool

// onBoth runs f for a registry in the heap and one in shared memory.
func onBoth(t *testing.T, f func(t *testing.T, r *gotheus.Registry)) {
	e := &env{dir: t.TempDir()}
	t.Cleanup(e.close)
	t.Run("heap", func(t *testing.T) { f(t, e.heap()) })
	t.Run("shm", func(t *testing.T) {
		r, err := e.kept()
		if err != nil {
			t.Fatal(err)
		}
		f(t, r)
	})
}

// TestUpdatesDoNotAllocate checks updates, and look-ups of known label sets.
func TestUpdatesDoNotAllocate(t *testing.T) {
	onBoth(t, func(t *testing.T, r *gotheus.Registry) {
		counter := r.NewCounter("c_total", "Counter.", nil)
		gauge := r.NewGauge("g", "Gauge.", nil)
		histogram := r.NewHistogram("h", "Histogram.", nil)
		summary := r.NewSummary("s", "Summary.", nil)
		vec := r.NewCounterVec("v_total", "Vec.", nil, "method", "route")
		latency := r.NewHistogramVec("l", "Vec.", nil, "route")
		labels := gotheus.Labels{"method": "GET", "route": "/"}
		for name, update := range map[string]func(){
			"Counter.Inc":       counter.Inc,
			"Counter.Add":       func() { counter.Add(3) },
			"Counter.Add 0.5":   func() { counter.Add(0.5) },
			"Gauge.Set":         func() { gauge.Set(1.5) },
			"Gauge.Add":         func() { gauge.Add(-1) },
			"Histogram.Observe": func() { histogram.Observe(0.3) },
			"Summary.Observe":   func() { summary.Observe(0.3) },
			"With 2 labels":     func() { vec.With("GET", "/").Inc() },
			"With 1 label":      func() { latency.With("/").Observe(1) },
			"WithLabels":        func() { vec.WithLabels(labels).Inc() },
			"TryWith": func() {
				if c, err := vec.TryWith("GET", "/"); err == nil {
					c.Inc()
				}
			},
		} {
			if n := testing.AllocsPerRun(200, update); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}

// TestPageAllocations: allocations of a page do not grow with the number of series. In the heap
// there are none; in shared memory, only those for waiting for the backend with a deadline. The
// race detector makes pools drop items.
func TestPageAllocations(t *testing.T) {
	onBoth(t, func(t *testing.T, r *gotheus.Registry) {
		most := 40.0
		switch {
		case poolsDrop:
			most = 150
		case strings.HasSuffix(t.Name(), "heap"):
			most = 0
		}
		counters := r.NewCounterVec("c_total", "Counters.", nil, "method", "route")
		histograms := r.NewHistogramVec("h", "Histograms.", nil, "route")
		for _, series := range []int{10, 10_000} {
			for i := range series {
				counters.With("GET", fmt.Sprint(i)).Inc()
				histograms.With(fmt.Sprint(i)).Observe(0.3)
			}
			n := testing.AllocsPerRun(10, func() {
				if err := r.WriteText(io.Discard); err != nil {
					t.Error(err)
				}
			})
			if n > most {
				t.Errorf("a page of %d counters and histograms: %v allocations, want at most %v", series, n, most)
			}
		}
	})
}
