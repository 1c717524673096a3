package main

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// bounds are the default of every library: 11 buckets and +Inf.
var bounds = gotheus.DefaultBuckets()

// observed are random values for all buckets, few of them large. There are so many that branch
// prediction cannot learn their order, as it does with a thousand.
var observed = func() (list [1 << 14]float64) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range list {
		list[i] = 0.003 * math.Exp(8.5*math.Pow(random.Float64(), 2))
	}
	return list
}()

// observeTable: observations in a kept histogram.
func observeTable(goroutines int) *table {
	return &table{
		title:      "Histogram: Observe, 11 buckets, " + where(goroutines),
		goroutines: goroutines, contenders: observeContenders,
	}
}

func observeContenders(e *env) ([]contender, error) {
	const floor = "bare scan, atomic add and compare-and-swap"
	words := make([]atomic.Uint64, len(bounds)+2) // the last one is the sum
	registry, err := e.kept()
	if err != nil {
		return nil, err
	}
	onHeap := e.heap().NewHistogram("h", "Histogram.", &gotheus.HistogramOptions{Buckets: bounds})
	onShm := registry.NewHistogram("h", "Histogram.", &gotheus.HistogramOptions{Buckets: bounds})
	striped := e.heap().NewHistogram("h", "Histogram.", &gotheus.HistogramOptions{Buckets: bounds, Stripes: stripes})
	cg := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: bounds})
	set := vm.NewSet()
	oth := otelHistogram(otelMeter(), "h")
	vmh, vmRange := set.NewPrometheusHistogramExt("h", bounds), set.NewHistogram("r")
	observe := func(h *gotheus.Histogram) func(int) {
		return func(n int) {
			for i := range n {
				h.Observe(observed[i%len(observed)])
			}
		}
	}
	return []contender{
		{name: floor, run: func(n int) {
			for i := range n {
				v, b := observed[i%len(observed)], 0
				for b < len(bounds) && v > bounds[b] {
					b++
				}
				words[b].Add(1)
				addFloat(&words[len(words)-1], v)
			}
		}},
		{name: ours + " heap", floor: floor, run: observe(onHeap)},
		{name: ours + " shm", floor: floor, run: observe(onShm)},
		{name: ours + " heap, 8 stripes", floor: floor, run: observe(striped)},
		{name: peer, floor: floor, run: func(n int) {
			for i := range n {
				cg.Observe(observed[i%len(observed)])
			}
		}},
		{name: "VictoriaMetrics, PrometheusHistogram", floor: floor, run: func(n int) {
			for i := range n {
				vmh.Update(observed[i%len(observed)])
			}
		}},
		{name: "VictoriaMetrics, Histogram (its own buckets)", floor: floor, run: func(n int) {
			for i := range n {
				vmRange.Update(observed[i%len(observed)])
			}
		}},
		{name: otel, floor: floor, run: func(n int) {
			for i := range n {
				oth.Record(context.Background(), observed[i%len(observed)])
			}
		}},
	}, nil
}

// nativeTable: a histogram with exponential buckets alone, at the same resolution.
func nativeTable() *table {
	return &table{title: "Histogram with exponential buckets: Observe, one goroutine", goroutines: 1, contenders: func(e *env) ([]contender, error) {
		registry, err := e.kept()
		if err != nil {
			return nil, err
		}
		o := &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 1.1}}
		onHeap, onShm := e.heap().NewHistogram("h", "Histogram.", o), registry.NewHistogram("h", "Histogram.", o)
		cg := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160})
		return observers(onHeap.Observe, onShm.Observe, cg.Observe), nil
	}}
}

// quantilesTable: a summary with three objectives.
func quantilesTable() *table {
	return &table{title: "Summary with 3 objectives: Observe, one goroutine", goroutines: 1, contenders: func(e *env) ([]contender, error) {
		registry, err := e.kept()
		if err != nil {
			return nil, err
		}
		o := &gotheus.SummaryOptions{Objectives: []float64{.5, .9, .99}}
		onHeap, onShm := e.heap().NewSummary("s", "Summary.", o), registry.NewSummary("s", "Summary.", o)
		cg := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s", Objectives: map[float64]float64{.5: .05, .9: .01, .99: .001}})
		return observers(onHeap.Observe, onShm.Observe, cg.Observe), nil
	}}
}

func observers(onHeap, onShm, theirs func(float64)) []contender {
	loop := func(observe func(float64)) func(int) {
		return func(n int) {
			for i := range n {
				observe(observed[i%len(observed)])
			}
		}
	}
	return []contender{
		{name: ours + " heap", run: loop(onHeap)},
		{name: ours + " shm", run: loop(onShm)},
		{name: peer, run: loop(theirs)},
	}
}
