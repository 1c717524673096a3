// The constructors of a registry. For the default registry, each has a twin in the package.

package gotheus_test

import (
	"os"

	"github.com/gotheus/gotheus"
)

func ExampleRegistry_NewCounter() {
	r := gotheus.NewRegistry(nil)
	jobs := r.NewCounter("jobs_total", "Jobs that are done.", nil)
	jobs.Inc()
	jobs.Add(2)
	show(r)
	// Output: jobs_total 3
}

func ExampleRegistry_NewGauge() {
	r := gotheus.NewRegistry(nil)
	temperature := r.NewGauge("temperature_celsius", "Temperature outside.", nil)
	temperature.Set(21.5)
	show(r)
	// Output: temperature_celsius 21.5
}

func ExampleRegistry_NewHistogram() {
	r := gotheus.NewRegistry(nil)
	latency := r.NewHistogram("answer_seconds", "Time to answer.", &gotheus.HistogramOptions{Buckets: []float64{.1, 1}})
	latency.Observe(.5)
	show(r)
	// Output:
	// answer_seconds_bucket{le="0.1"} 0
	// answer_seconds_bucket{le="1"} 1
	// answer_seconds_bucket{le="+Inf"} 1
	// answer_seconds_sum 0.5
	// answer_seconds_count 1
}

func ExampleRegistry_NewSummary() {
	r := gotheus.NewRegistry(nil)
	sizes := r.NewSummary("upload_bytes", "Sizes of uploads.", nil)
	sizes.Observe(1000)
	sizes.Observe(3000)
	show(r)
	// Output:
	// upload_bytes_sum 4000
	// upload_bytes_count 2
}

func ExampleRegistry_NewCounterVec() {
	r := gotheus.NewRegistry(nil)
	requests := r.NewCounterVec("requests_total", "Requests served.", nil, "method", "path")
	requests.With("GET", "/").Inc()
	requests.With("PUT", "/item").Add(3)
	show(r)
	// Output:
	// requests_total{method="GET",path="/"} 1
	// requests_total{method="PUT",path="/item"} 3
}

func ExampleRegistry_NewGaugeVec() {
	r := gotheus.NewRegistry(nil)
	temperature := r.NewGaugeVec("temperature_celsius", "Temperature of rooms.", nil, "room")
	temperature.With("kitchen").Set(21.5)
	show(r)
	// Output: temperature_celsius{room="kitchen"} 21.5
}

func ExampleRegistry_NewHistogramVec() {
	r := gotheus.NewRegistry(nil)
	latency := r.NewHistogramVec("query_seconds", "Time of queries.", &gotheus.HistogramOptions{
		Buckets: []float64{.1, 1},
	}, "table")
	latency.With("orders").Observe(.5)
	show(r)
	// Output:
	// query_seconds_bucket{table="orders",le="0.1"} 0
	// query_seconds_bucket{table="orders",le="1"} 1
	// query_seconds_bucket{table="orders",le="+Inf"} 1
	// query_seconds_sum{table="orders"} 0.5
	// query_seconds_count{table="orders"} 1
}

func ExampleRegistry_NewSummaryVec() {
	r := gotheus.NewRegistry(nil)
	sizes := r.NewSummaryVec("upload_bytes", "Sizes of uploads.", nil, "type")
	sizes.With("image").Observe(5000)
	show(r)
	// Output:
	// upload_bytes_sum{type="image"} 5000
	// upload_bytes_count{type="image"} 1
}

func ExampleRegistry_NewStateSetVec() {
	r := gotheus.NewRegistry(nil)
	doors := r.NewStateSetVec("door", "What doors are.", []string{"open", "locked"}, nil, "house")
	doors.With("north").Set("locked")
	show(r)
	// Output:
	// door{house="north",door="open"} 0
	// door{house="north",door="locked"} 1
}

// A value from elsewhere whose type is unknown.
func ExampleRegistry_NewUntypedFunc() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	reading := func() (float64, error) { return 17, nil }
	remove := r.NewUntypedFunc("device_reading", "What the device says.", &gotheus.UntypedOptions{
		Labels: gotheus.Labels{"device": "a17"},
	}, reading)
	defer remove()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP device_reading What the device says.
	// # TYPE device_reading untyped
	// device_reading{device="a17"} 17
}

func ExampleRegistry_NewGaugeFunc() {
	queue := make(chan string, 10)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	remove := r.NewGaugeFunc("queue_length", "Messages waiting in this process.", nil,
		func() (float64, error) { return float64(len(queue)), nil })
	defer remove()
	queue <- "hello"
	r.WriteText(os.Stdout)
	// Output:
	// # HELP queue_length Messages waiting in this process.
	// # TYPE queue_length gauge
	// queue_length 1
}

// A counter whose value a library keeps. The metric is the total over all processes.
func ExampleRegistry_NewCounterFunc() {
	hits := 41
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	r.NewCounterFunc("cache_hits_total", "Hits of the cache.", nil, func() (float64, error) { return float64(hits), nil })
	hits++
	r.WriteText(os.Stdout)
	// Output:
	// # HELP cache_hits_total Hits of the cache.
	// # TYPE cache_hits_total counter
	// cache_hits_total 42
}

func ExampleRegistry_NewInfo() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	r.NewInfo("shop_info", "Which shop this is.", gotheus.Labels{"version": "1.2", "edition": "north"})
	r.WriteText(os.Stdout)
	// Output:
	// # HELP shop_info Which shop this is.
	// # TYPE shop_info gauge
	// shop_info{edition="north",version="1.2"} 1
}

func ExampleRegistry_NewStateSet() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	states := []string{"starting", "working", "draining"}
	worker := r.NewStateSet("worker_state", "What the worker is doing.", states,
		// Each process has its own state.
		&gotheus.StateSetOptions{Mode: gotheus.ModePerProcess})
	worker.Set("starting")
	worker.Set("working")
	r.WriteText(os.Stdout)
	// Output:
	// # HELP worker_state What the worker is doing.
	// # TYPE worker_state gauge
	// worker_state{worker_state="starting"} 0
	// worker_state{worker_state="working"} 1
	// worker_state{worker_state="draining"} 0
}
