package gotheus_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
)

// show prints the samples of a registry's page.
func show(r *gotheus.Registry) {
	var page strings.Builder
	r.WriteText(&page)
	for line := range strings.Lines(page.String()) {
		if !strings.HasPrefix(line, "#") {
			fmt.Print(line)
		}
	}
}

// explain prints an error, one line for each of its parts.
func explain(err error) { fmt.Println(strings.ReplaceAll(err.Error(), ": ", ":\n")) }

func ExampleNewCounter() {
	jobs := gotheus.NewCounter("example_jobs_total", "Jobs that are done.", nil)
	jobs.Inc()
	jobs.Add(2)
	fmt.Println(jobs.Value())
	// Output: 3
}

func ExampleNewGauge() {
	size := gotheus.NewGauge("example_queue_bytes", "Size of what waits.", &gotheus.GaugeOptions{Unit: "bytes"})
	size.Add(100)
	size.Sub(40)
	fmt.Println(size.Value())
	// Output: 60
}

func ExampleNewHistogram() {
	latency := gotheus.NewHistogram("example_latency_seconds", "Time to answer.", &gotheus.HistogramOptions{
		Unit:    "seconds",
		Buckets: gotheus.ExponentialBucketsRange(.001, 10, 9),
	})
	defer latency.ObserveSince(time.Now())
	latency.Observe(.25)
	fmt.Println(latency.Count(), latency.Sum())
	// Output: 1 0.25
}

func ExampleNewSummary() {
	sizes := gotheus.NewSummary("example_sizes_bytes", "Sizes of uploads.", nil)
	sizes.Observe(1000)
	sizes.Observe(3000)
	fmt.Println(sizes.Count(), sizes.Sum())
	// Output: 2 4000
}

func ExampleNewGaugeVec() {
	temperature := gotheus.NewGaugeVec("example_temperature_celsius", "Temperature of rooms.", nil, "room")
	temperature.With("kitchen").Set(21.5)
	fmt.Println(temperature.With("kitchen").Value())
	// Output: 21.5
}

func ExampleNewHistogramVec() {
	latency := gotheus.NewHistogramVec("example_query_seconds", "Time of queries.", nil, "table")
	latency.With("orders").Observe(.5)
	fmt.Println(latency.With("orders").Count(), latency.With("orders").Sum())
	// Output: 1 0.5
}

func ExampleNewSummaryVec() {
	sizes := gotheus.NewSummaryVec("example_upload_bytes", "Sizes of uploads.", nil, "type")
	sizes.With("image").Observe(5000)
	fmt.Println(sizes.With("image").Count(), sizes.With("image").Sum())
	// Output: 1 5000
}

func ExampleNewStateSet() {
	worker := gotheus.NewStateSet("example_state", "What the worker does.", []string{"idle", "busy"}, nil)
	worker.Set("busy")
	fmt.Println(worker.Has("busy"), worker.Has("idle"))
	// Output: true false
}

func ExampleNewStateSetVec() {
	doors := gotheus.NewStateSetVec("example_door", "What doors are.", []string{"open", "locked"}, nil, "house")
	doors.With("north").Set("locked")
	fmt.Println(doors.With("north").Has("locked"))
	// Output: true
}

func ExampleNewStateSetOf() {
	type worker struct{ Queue string }
	workers := gotheus.NewStateSetOf[worker]("example_worker", "What workers do.", []string{"idle", "busy"}, nil)
	workers.With(worker{"mail"}).Set("busy")
	fmt.Println(workers.With(worker{"mail"}).Has("busy"))
	// Output: true
}

// Fields and parameters that hold a family are declared with the aliases.
func ExampleCounterVec() {
	type server struct {
		requests *gotheus.CounterVec
	}
	r := gotheus.NewRegistry(nil)
	s := server{r.NewCounterVec("requests_total", "Requests served.", nil, "method")}
	s.requests.With("GET").Inc()
	show(r)
	// Output: requests_total{method="GET"} 1
}

// Metrics with a constant label of their own, besides those of the registry. Those of one name that
// differ in its value exist side by side.
func ExampleCounterOptions_labels() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "eu"}})
	r.NewCounterVec("requests_total", "Requests served.", &gotheus.CounterOptions{
		Labels: gotheus.Labels{"api": "v2"},
	}, "host").With("a").Inc()
	r.NewCounterVec("requests_total", "Requests served.", &gotheus.CounterOptions{
		Labels: gotheus.Labels{"api": "v3"},
	}, "host").With("a").Add(2)
	show(r)
	// Output:
	// requests_total{api="v2",host="a",region="eu"} 1
	// requests_total{api="v3",host="a",region="eu"} 2
}

// Without options, an existing family is returned as it is.
func ExampleErrConflict() {
	r := gotheus.NewRegistry(nil)
	first := r.NewHistogram("call_seconds", "Time of calls.", &gotheus.HistogramOptions{Buckets: []float64{.5, 1}})
	fmt.Println(first == r.NewHistogram("call_seconds", "Time of calls.", nil))
	_, err := gotheus.TryNew[gotheus.Histogram](r, "call_seconds", "Time of calls.", &gotheus.HistogramOptions{Buckets: []float64{2}})
	explain(err)
	// Output:
	// true
	// gotheus:
	// conflicting definition:
	// call_seconds:
	// it already has buckets [0.5 1], not [2]:
	// use the same, or leave it out to take the existing one
}

func ExampleTryNewRegistry() {
	_, err := gotheus.TryNewRegistry(&gotheus.RegistryOptions{Labels: gotheus.Labels{"__region": "eu"}})
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// constant label:
	// registry:
	// label "__region":
	// names that begin with __ are reserved
}

func ExampleTryNewInfo() {
	_, err := gotheus.TryNewInfo(nil, "build", "What was built.", gotheus.Labels{"version": "1.2"})
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// build:
	// the name of an info must end in _info
}

func ExampleTryNewStateSet() {
	_, err := gotheus.TryNewStateSet(nil, "door", "What the door is.", []string{"open", "open"}, nil)
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// door:
	// state "open" is given twice
}

func ExampleTryNewStateSetVec() {
	_, err := gotheus.TryNewStateSetVec(nil, "door", "What doors are.", []string{"open"}, nil, "door")
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// door:
	// label "door" is reserved in a state set
}

func ExampleTryNewStateSetOf() {
	_, err := gotheus.TryNewStateSetOf[string](nil, "door", "What doors are.", []string{"open"}, nil)
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// door:
	// the type of the labels is string:
	// it must be a struct with a field for each label
}

func ExampleTryNewUntypedFunc() {
	_, err := gotheus.TryNewUntypedFunc(nil, "reading", "What the device says.", nil, nil)
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// reading:
	// the function is nil
}

func ExampleLinearBuckets() {
	fmt.Println(gotheus.LinearBuckets(10, 5, 4))
	// Output: [10 15 20 25]
}

func ExampleExponentialBuckets() {
	fmt.Println(gotheus.ExponentialBuckets(1, 2, 5))
	// Output: [1 2 4 8 16]
}

func ExampleExponentialBucketsRange() {
	for _, bound := range gotheus.ExponentialBucketsRange(.1, 100, 4) {
		fmt.Printf("%.3g ", bound)
	}
	// Output: 0.1 1 10 100
}

// A main function that uses the default registry, whose metrics are package variables.
func ExampleFlush() {
	gotheus.SetLogger(slog.Default().With("part", "metrics"))
	defer gotheus.SetLogger(nil) // as before
	remove := gotheus.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("example_backlog", "Orders that wait.").Put(3)
		return nil
	}))
	defer remove()
	// Before the process is replaced by another one, for instance:
	fmt.Println(gotheus.Flush(context.Background()))
	// Output: <nil>
}
