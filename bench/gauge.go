package main

import (
	"math"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// gaugeSetTable: a gauge set to a different value each time.
func gaugeSetTable() *table {
	return &table{title: "Gauge: Set, one goroutine", goroutines: 1, contenders: func(e *env) ([]contender, error) {
		const floor, floorMapped = "bare atomic store", "bare atomic store, mapped page"
		g, err := newGauges(e)
		if err != nil {
			return nil, err
		}
		store := func(w *atomic.Uint64) func(int) {
			return func(n int) {
				for i := range n {
					w.Store(math.Float64bits(float64(i)))
				}
			}
		}
		set := func(g *gotheus.Gauge) func(int) {
			return func(n int) {
				for i := range n {
					g.Set(float64(i))
				}
			}
		}
		return []contender{
			{name: floor, run: store(g.word)},
			{name: floorMapped, run: store(g.mapped)},
			{name: ours + " heap", floor: floor, run: set(g.heap)},
			{name: ours + " shm", floor: floorMapped, run: set(g.shm)},
			{name: peer, floor: floor, run: func(n int) {
				for i := range n {
					g.cg.Set(float64(i))
				}
			}},
			{name: "VictoriaMetrics", floor: floor, run: func(n int) {
				for i := range n {
					g.vm.Set(float64(i))
				}
			}},
		}, nil
	}}
}

// gaugeAddTable: additions to a gauge.
func gaugeAddTable() *table {
	return &table{title: "Gauge: Add, one goroutine", goroutines: 1, contenders: func(e *env) ([]contender, error) {
		const floor, floorMapped = "bare compare-and-swap of a float", "bare compare-and-swap of a float, mapped page"
		g, err := newGauges(e)
		if err != nil {
			return nil, err
		}
		bare := func(w *atomic.Uint64) func(int) {
			return func(n int) {
				for range n {
					addFloat(w, 1)
				}
			}
		}
		add := func(g *gotheus.Gauge) func(int) {
			return func(n int) {
				for range n {
					g.Add(1)
				}
			}
		}
		return []contender{
			{name: floor, run: bare(g.word)},
			{name: floorMapped, run: bare(g.mapped)},
			{name: ours + " heap", floor: floor, run: add(g.heap)},
			{name: ours + " shm", floor: floorMapped, run: add(g.shm)},
			{name: peer, floor: floor, run: func(n int) {
				for range n {
					g.cg.Add(1)
				}
			}},
			{name: "VictoriaMetrics", floor: floor, run: func(n int) {
				for range n {
					g.vm.Add(1)
				}
			}},
		}, nil
	}}
}

type gauges struct {
	word, mapped *atomic.Uint64
	heap, shm    *gotheus.Gauge
	cg           prometheus.Gauge
	vm           *vm.Gauge
}

func newGauges(e *env) (*gauges, error) {
	mapped, err := e.mappedWord()
	if err != nil {
		return nil, err
	}
	registry, err := e.kept()
	if err != nil {
		return nil, err
	}
	return &gauges{
		word: heapWord(), mapped: mapped,
		heap: e.heap().NewGauge("g", "Gauge.", nil),
		shm:  registry.NewGauge("g", "Gauge.", nil),
		cg:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "g"}),
		vm:   vm.NewSet().NewGauge("g", nil),
	}, nil
}

func addFloat(w *atomic.Uint64, v float64) {
	for {
		old := w.Load()
		if w.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}
