package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// deleteTable: label sets are deleted from a family, and then made again outside of the measured
// time. Allocations and bytes include that.
func deleteTable(series int) *table {
	return &table{
		title:      fmt.Sprintf("Counter: delete one label set of 2 labels among %d", series),
		goroutines: 1, large: true, contenders: func(e *env) ([]contender, error) { return deletions(e, series) },
	}
}

func deletions(e *env, series int) ([]contender, error) {
	registry, err := e.kept()
	if err != nil {
		return nil, err
	}
	onHeap := e.heap().NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	onShm := registry.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	cg := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"method", "route"})
	routes := make([]string, series)
	for i := range routes {
		routes[i] = fmt.Sprintf("/api/v1/route/%d", i)
		onHeap.With("GET", routes[i])
		onShm.With("GET", routes[i])
		cg.WithLabelValues("GET", routes[i])
	}
	// Each measurement continues where the previous one ended, in an order without locality.
	measured := func(name string, remove func(route string) bool, create func(route string)) contender {
		c := contender{name: name, time: new(atomic.Int64)}
		at := 0
		c.run = func(n int) {
			took := time.Duration(0)
			for left := n; left > 0; {
				some := min(left, (series+1)/2)
				from := at
				start := time.Now()
				for range some {
					if !remove(routes[at]) {
						panic("the series does not exist")
					}
					at = (at + step) % series
				}
				took += time.Since(start)
				for i := range some {
					create(routes[(from+i*step)%series])
				}
				left -= some
			}
			c.time.Store(int64(took) / int64(n))
		}
		return c
	}
	gotheusOn := func(where string, v *gotheus.Vec[gotheus.Counter]) contender {
		return measured(ours+" "+where,
			func(route string) bool { return v.Delete("GET", route) },
			func(route string) { v.With("GET", route) })
	}
	return []contender{
		gotheusOn("heap", onHeap),
		gotheusOn("shm", onShm),
		measured(peer,
			func(route string) bool { return cg.DeleteLabelValues("GET", route) },
			func(route string) { cg.WithLabelValues("GET", route) }),
	}, nil
}

const step = 7919 // a prime number
