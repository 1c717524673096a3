package main

import (
	"context"
	"fmt"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/metric"

	"github.com/gotheus/gotheus"
)

// where ends a table's title.
func where(goroutines int) string {
	if goroutines == 1 {
		return "one goroutine"
	}
	return fmt.Sprintf("%d goroutines at once", goroutines)
}

// counterTable: a counter whose handle was kept.
func counterTable(goroutines int) *table {
	t := &table{title: "Counter: Inc, " + where(goroutines), goroutines: goroutines, contenders: counterContenders}
	if goroutines == 1 {
		t.limit = 1.15
	}
	return t
}

func counterContenders(e *env) ([]contender, error) {
	const bareHeap, bareMapped = "bare atomic add", "bare atomic add, mapped page"
	word := heapWord()
	mapped, err := e.mappedWord()
	if err != nil {
		return nil, err
	}
	onHeap := e.heap().NewCounter("c_total", "Counter.", nil)
	registry, err := e.kept()
	if err != nil {
		return nil, err
	}
	onShm := registry.NewCounter("c_total", "Counter.", nil)
	cg := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"})
	vmc := vm.NewSet().NewCounter("c_total")
	otc := otelCounter(otelMeter(), "c_total")
	return []contender{
		{name: bareHeap, run: func(n int) {
			for range n {
				word.Add(1)
			}
		}},
		{name: bareMapped, run: func(n int) {
			for range n {
				mapped.Add(1)
			}
		}},
		{name: ours + " heap", floor: bareHeap, run: inc(onHeap)},
		{name: ours + " shm", floor: bareMapped, run: inc(onShm)},
		{name: peer, floor: bareHeap, run: func(n int) {
			for range n {
				cg.Inc()
			}
		}},
		{name: "VictoriaMetrics", floor: bareHeap, run: func(n int) {
			for range n {
				vmc.Inc()
			}
		}},
		{name: otel, floor: bareHeap, run: func(n int) {
			for range n {
				otc.Add(context.Background(), 1)
			}
		}},
	}, nil
}

func inc(c *gotheus.Counter) func(int) {
	return func(n int) {
		for range n {
			c.Inc()
		}
	}
}

// lookupTable: a counter that is looked up by two labels, among a hundred.
func lookupTable(goroutines int) *table {
	return &table{
		title:      "Counter: look-up by 2 labels among 100 series, and Inc, " + where(goroutines),
		goroutines: goroutines, contenders: lookupContenders,
	}
}

func lookupContenders(e *env) ([]contender, error) {
	const series = 100
	var (
		pairs  [series][2]string
		maps   [series]gotheus.Labels
		cgMaps [series]prometheus.Labels
		names  [series]string
		sets   [series][]metric.AddOption
		floors = make(map[[2]string]*atomic.Uint64, series)
	)
	for i := range series {
		method, route := fmt.Sprint("METHOD", i%10), fmt.Sprintf("/api/v1/route/%d", i/10)
		// Series that are adjacent in look-up order are not adjacent in label order.
		at := i * 37 % series
		pairs[at] = [2]string{method, route}
		maps[at] = gotheus.Labels{"method": method, "route": route}
		cgMaps[at] = prometheus.Labels{"method": method, "route": route}
		names[at] = fmt.Sprintf(`requests_total{method=%q,route=%q}`, method, route)
		sets[at] = []metric.AddOption{otelSet("method", method, "route", route)}
		floors[pairs[at]] = new(atomic.Uint64)
	}
	registry, err := e.kept()
	if err != nil {
		return nil, err
	}
	heap := e.heap()
	onHeap := heap.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	type request struct{ Method, Route string }
	typed, err := gotheus.TryNewVecOf[request, gotheus.Counter](heap, "requests_total", "Requests.", nil)
	if err != nil {
		return nil, err
	}
	onShm := registry.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	cg := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"method", "route"})
	set := vm.NewSet()
	otc := otelCounter(otelMeter(), "requests_total")

	const floor = "Go map with a [2]string key, no lock, bare atomic add"
	with := func(v *gotheus.Vec[gotheus.Counter]) func(int) {
		return func(n int) {
			for i := range n {
				p := &pairs[i%series]
				v.With(p[0], p[1]).Inc()
			}
		}
	}
	return []contender{
		{name: floor, run: func(n int) {
			for i := range n {
				floors[pairs[i%series]].Add(1)
			}
		}},
		{name: ours + " heap, With", floor: floor, run: with(onHeap)},
		{name: ours + " shm, With", floor: floor, run: with(onShm)},
		{name: ours + " heap, With of a struct", floor: floor, run: func(n int) {
			for i := range n {
				p := &pairs[i%series]
				typed.With(request{p[0], p[1]}).Inc()
			}
		}},
		{name: ours + " heap, WithLabels", floor: floor, run: func(n int) {
			for i := range n {
				onHeap.WithLabels(maps[i%series]).Inc()
			}
		}},
		{name: peer + ", WithLabelValues", floor: floor, run: func(n int) {
			for i := range n {
				p := &pairs[i%series]
				cg.WithLabelValues(p[0], p[1]).Inc()
			}
		}},
		{name: peer + ", With", floor: floor, run: func(n int) {
			for i := range n {
				cg.With(cgMaps[i%series]).Inc()
			}
		}},
		{name: "VictoriaMetrics, GetOrCreateCounter with ready-made name", floor: floor, run: func(n int) {
			for i := range n {
				set.GetOrCreateCounter(names[i%series]).Inc()
			}
		}},
		{name: otel + ", ready-made attribute set", floor: floor, run: func(n int) {
			for i := range n {
				otc.Add(context.Background(), 1, sets[i%series]...)
			}
		}},
	}, nil
}
