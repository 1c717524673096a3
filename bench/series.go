package main

import (
	"context"
	"fmt"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/metric"

	"github.com/gotheus/gotheus"
)

// newSeriesTable: new label sets in an initially empty family.
func newSeriesTable(series int) *table {
	return &table{
		title:      fmt.Sprintf("Counter: new label set of 2 labels, and Inc, one goroutine, %d in a row", series),
		goroutines: 1, operations: series, contenders: func(e *env) ([]contender, error) { return newSeries(e, series) },
	}
}

func newSeries(e *env, series int) ([]contender, error) {
	// Strings are ready-made: only the library's work is measured.
	values, names := make([]string, series), make([]string, series)
	for i := range values {
		values[i] = fmt.Sprintf("/api/v1/route/%d", i)
		names[i] = fmt.Sprintf(`requests_total{method="GET",route=%q}`, values[i])
	}
	var vec *gotheus.Vec[gotheus.Counter]
	with := func(n int) {
		for i := range n {
			vec.With("GET", values[i]).Inc()
		}
	}
	var cg *prometheus.CounterVec
	var otc metric.Int64Counter
	var set *vm.Set
	drop := func() {}
	e.cleanup = append(e.cleanup, func() { drop() })
	define := func(r *gotheus.Registry) {
		vec = r.NewCounterVec("requests_total", "Requests.", nil, "method", "route")
	}
	return []contender{
		{name: ours + " heap", prepare: func(int) { define(e.heap()) }, run: with},
		{name: ours + " shm", prepare: func(int) {
			drop()
			r, remove, err := e.shm()
			if err != nil {
				panic(err) // the directory has worked for other tables
			}
			drop = remove
			define(r)
		}, run: with},
		{name: peer, prepare: func(int) {
			cg = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"method", "route"})
		}, run: func(n int) {
			for i := range n {
				cg.WithLabelValues("GET", values[i]).Inc()
			}
		}},
		{name: "VictoriaMetrics", prepare: func(int) { set = vm.NewSet() }, run: func(n int) {
			for i := range n {
				set.GetOrCreateCounter(names[i]).Inc()
			}
		}},
		{name: otel, prepare: func(int) { otc = otelCounter(otelMeter(), "requests_total") }, run: func(n int) {
			for i := range n {
				otc.Add(context.Background(), 1, otelSet("method", "GET", "route", values[i]))
			}
		}},
	}, nil
}
