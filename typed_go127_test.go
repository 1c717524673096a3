//go:build go1.27

package gotheus_test

import (
	"os"

	"github.com/gotheus/gotheus"
)

func ExampleRegistry_NewCounterOf() {
	type request struct {
		Method string
		Code   int
	}
	r := gotheus.NewRegistry(nil)
	requests := r.NewCounterOf[request]("requests_total", "Requests served.", nil)
	requests.With(request{"GET", 200}).Inc()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total{code="200",method="GET"} 1
}

func ExampleRegistry_NewGaugeOf() {
	type room struct{ Name string }
	r := gotheus.NewRegistry(nil)
	r.NewGaugeOf[room]("temperature_celsius", "Temperature.", nil).With(room{"kitchen"}).Set(21)
	show(r)
	// Output: temperature_celsius{name="kitchen"} 21
}

func ExampleRegistry_NewHistogramOf() {
	type query struct{ Table string }
	r := gotheus.NewRegistry(nil)
	seconds := r.NewHistogramOf[query]("query_seconds", "Time of queries.", &gotheus.HistogramOptions{Buckets: []float64{1}})
	seconds.With(query{"orders"}).Observe(.5)
	show(r)
	// Output:
	// query_seconds_bucket{table="orders",le="1"} 1
	// query_seconds_bucket{table="orders",le="+Inf"} 1
	// query_seconds_sum{table="orders"} 0.5
	// query_seconds_count{table="orders"} 1
}

func ExampleRegistry_NewSummaryOf() {
	type upload struct{ Type string }
	r := gotheus.NewRegistry(nil)
	r.NewSummaryOf[upload]("upload_bytes", "Sizes of uploads.", nil).With(upload{"image"}).Observe(5000)
	show(r)
	// Output:
	// upload_bytes_sum{type="image"} 5000
	// upload_bytes_count{type="image"} 1
}

func ExampleRegistry_NewStateSetOf() {
	type worker struct{ Queue string }
	r := gotheus.NewRegistry(nil)
	r.NewStateSetOf[worker]("worker", "What workers do.", []string{"idle", "busy"}, nil).With(worker{"mail"}).Set("busy")
	show(r)
	// Output:
	// worker{queue="mail",worker="idle"} 0
	// worker{queue="mail",worker="busy"} 1
}
