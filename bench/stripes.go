package main

import (
	"context"
	"sync/atomic"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gotheus/gotheus"
)

// A series that several goroutines or processes update constantly. Registries that are bound to one
// file stand for processes: each has its own instance in the file, and its own mapping.

const stripes = 8

func stripedCounterTable(goroutines int) *table {
	return &table{
		title: "Stripes: Inc of one counter, " + where(goroutines), goroutines: goroutines,
		contenders: func(e *env) ([]contender, error) {
			heap, path := e.heap(), e.path()
			striped := func(r *gotheus.Registry) *gotheus.Counter {
				return r.NewCounter("striped_total", "Striped.", &gotheus.CounterOptions{Stripes: stripes})
			}
			var processes []*gotheus.Counter
			for range goroutines {
				r := e.heap()
				if err := r.Bind(context.Background(), "shm://"+path+"?fs=any"); err != nil {
					return nil, err
				}
				e.cleanup = append(e.cleanup, func() { r.Close(context.Background()) })
				processes = append(processes, striped(r))
			}
			var turn atomic.Uint32
			cg := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total"})
			vmc := vm.NewSet().NewCounter("c_total")
			return []contender{
				{name: ours + " heap", run: inc(heap.NewCounter("plain_total", "Plain.", nil))},
				{name: ours + " heap, 8 stripes", run: inc(striped(heap))},
				{name: ours + " shm, 8 stripes, a process each", run: func(n int) {
					c := processes[int(turn.Add(1))%len(processes)]
					for range n {
						c.Inc()
					}
				}},
				{name: peer, run: func(n int) {
					for range n {
						cg.Inc()
					}
				}},
				{name: "VictoriaMetrics", run: func(n int) {
					for range n {
						vmc.Inc()
					}
				}},
			}, nil
		},
	}
}
