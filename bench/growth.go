package main

import (
	"fmt"
	"io"
	"math/rand/v2"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// Tables about the cost of larger numbers of series.

// coldTable: look-ups in random order.
func coldTable(series int) *table {
	return &table{
		title:      fmt.Sprintf("Growth: look-up by 2 labels among %d series in random order, and Inc", series),
		goroutines: 1, large: true, contenders: func(e *env) ([]contender, error) { return coldContenders(e, series) },
	}
}

func coldContenders(e *env, series int) ([]contender, error) {
	registry, err := e.kept()
	if err != nil {
		return nil, err
	}
	onHeap := e.heap().NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	onShm := registry.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	cg := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"method", "route"})
	set := vm.NewSet()
	routes, names := make([]string, series), make([]string, series)
	for i := range routes {
		routes[i] = fmt.Sprintf("/api/v1/route/%d", i)
		names[i] = fmt.Sprintf(`requests_total{method="GET",route=%q}`, routes[i])
		onHeap.With("GET", routes[i])
		onShm.With("GET", routes[i])
		cg.WithLabelValues("GET", routes[i])
		set.GetOrCreateCounter(names[i])
	}
	// Label values are in memory in look-up order: only the library's memory is accessed at
	// random.
	rand.New(rand.NewPCG(1, 1)).Shuffle(series, func(i, k int) {
		routes[i], routes[k] = routes[k], routes[i]
		names[i], names[k] = names[k], names[i]
	})
	for i := range routes {
		routes[i], names[i] = string([]byte(routes[i])), string([]byte(names[i]))
	}
	// Each measurement continues where the previous one ended, since few cover all series.
	with := func(update func(route string)) func(int) {
		at := 0
		return func(n int) {
			for range n {
				update(routes[at])
				if at++; at == series {
					at = 0
				}
			}
		}
	}
	at := 0
	return []contender{
		{name: ours + " heap, With", run: with(func(route string) { onHeap.With("GET", route).Inc() })},
		{name: ours + " shm, With", run: with(func(route string) { onShm.With("GET", route).Inc() })},
		{name: peer + ", WithLabelValues", run: with(func(route string) { cg.WithLabelValues("GET", route).Inc() })},
		{name: "VictoriaMetrics, GetOrCreateCounter with ready-made name", run: func(n int) {
			for range n {
				set.GetOrCreateCounter(names[at]).Inc()
				if at++; at == series {
					at = 0
				}
			}
		}},
	}, nil
}

// growthSizes are numbers of series up to the largest.
func growthSizes(largest int) (sizes []int) {
	for series := max(largest/1000, 1); series <= largest; series *= 10 {
		sizes = append(sizes, series)
	}
	return sizes
}

// newGrowthTable: creating families of different sizes, by series. There are no peers: see the
// table of new label sets.
func newGrowthTable(largest int) *table {
	return &table{title: fmt.Sprintf("Growth: new label sets, up to %d in a row, each", largest), goroutines: 1, contenders: func(e *env) (list []contender, err error) {
		routes := make([]string, largest)
		for i := range routes {
			routes[i] = fmt.Sprintf("/api/v1/route/%d", i)
		}
		for _, series := range growthSizes(largest) {
			list = append(list, contender{name: fmt.Sprintf("%s heap, %d", ours, series), per: series, run: func(n int) {
				for range n {
					v := e.heap().NewCounterVec("requests_total", "Requests.", nil, "method", "route")
					for _, route := range routes[:series] {
						v.With("GET", route).Inc()
					}
				}
			}})
		}
		return list, nil
	}}
}

// growthTable: pages of different sizes, by series. There are no peers: client_golang takes seconds
// for the largest.
func growthTable(largest int) *table {
	return &table{title: fmt.Sprintf("Growth: a page of up to %d counters, for each series", largest), goroutines: 1, large: true, contenders: func(e *env) (list []contender, err error) {
		for _, series := range growthSizes(largest) {
			heap := e.heap()
			shm, err := e.kept()
			if err != nil {
				return nil, err
			}
			for _, r := range []*gotheus.Registry{heap, shm} {
				v := r.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
				for i := range series {
					v.With("GET", fmt.Sprintf("/api/v1/route/%d", i)).Add(float64(i))
				}
			}
			list = append(list, perSeries(fmt.Sprintf("%s heap, %d", ours, series), series, heap), perSeries(fmt.Sprintf("%s shm, %d", ours, series), series, shm))
		}
		return list, nil
	}}
}

func perSeries(name string, series int, r *gotheus.Registry) contender {
	return contender{name: name, per: series, run: func(n int) {
		for range n {
			if err := r.WriteText(io.Discard); err != nil {
				panic(err)
			}
		}
	}}
}
