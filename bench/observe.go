package main

import (
	"math"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// bounds are every library's default: 11 buckets and +Inf.
var bounds = gotheus.DefaultBuckets()

// observed are values for all buckets, few of them large, in no order that could be predicted.
var observed = func() (list [1024]float64) {
	for i := range list {
		list[i] = 0.003 * math.Exp(8.5*math.Pow(float64(i*619%len(list))/float64(len(list)), 2))
	}
	return list
}()

// observeTable: a histogram whose handle was kept.
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
	cg := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", Buckets: bounds})
	set := vm.NewSet()
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
	}, nil
}
