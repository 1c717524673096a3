package gotheus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gotheus/gotheus"
)

func ExampleNewCounterVec() {
	gotheus.SetDefault(new(gotheus.Registry)) // for this example only

	requests := gotheus.NewCounterVec("requests_total", "Requests served.", nil, "method", "path")
	requests.With("GET", "/").Inc()
	requests.With("GET", "/").Inc()
	requests.With("PUT", "/item").Add(3)
	gotheus.Default().WriteText(os.Stdout)
	// Output:
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total{method="GET",path="/"} 2
	// requests_total{method="PUT",path="/item"} 3
}

// Two registries stand for two processes here: the counts of one are on the page of the other.
func ExampleRegistry_Bind() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	url := "shm://" + filepath.Join(dir, "shop") + "?fs=any"

	one, other := new(gotheus.Registry), new(gotheus.Registry)
	orders := one.NewCounter("orders_total", "Orders taken.", nil)
	orders.Add(2) // counts before there is a backend
	for _, r := range []*gotheus.Registry{one, other} {
		if err := r.Bind(context.Background(), url); err != nil {
			fmt.Println(err) // metrics keep counting in the heap
		}
		defer r.Close(context.Background())
	}
	orders.Inc()
	for f := range other.Families(context.Background()) {
		for s := range f.Samples() {
			if f.Name == "orders_total" {
				fmt.Println(s.Name, s.Value)
			}
		}
	}
	// Output: orders_total 3
}

func ExampleRegistry_Bind_error() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	err := r.Bind(context.Background(), "nosuch://host/")
	fmt.Println(errors.Is(err, gotheus.ErrScheme))
	r.NewCounter("c_total", "Counts all the same.", nil).Inc()
	// Output: true
}

func ExampleNewRegistry() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{
		Prefix: "shop_",
		Labels: gotheus.Labels{"region": "eu"},
	})
	r.NewGauge("temperature_celsius", "Temperature of the fridge.", nil).Set(4.5)
	r.WriteText(os.Stdout)
	// Output:
	// # HELP shop_temperature_celsius Temperature of the fridge.
	// # TYPE shop_temperature_celsius gauge
	// shop_temperature_celsius{region="eu"} 4.5
}

func ExampleTryNew() {
	name := "from\nconfiguration"
	_, err := gotheus.TryNew[gotheus.Counter](new(gotheus.Registry), name, "A name that is not known in advance.", nil)
	explain(err)
	// Output:
	// gotheus:
	// invalid definition:
	// name "from\nconfiguration":
	// must be UTF-8 without control characters, and not empty
}

func ExampleTryNewVec() {
	r := new(gotheus.Registry)
	gotheus.TryNewVec[gotheus.Counter](r, "hits_total", "Hits.", nil, "page")
	_, err := gotheus.TryNewVec[gotheus.Counter](r, "hits_total", "Hits.", nil, "path")
	fmt.Println(errors.Is(err, gotheus.ErrConflict))
	explain(err)
	// Output:
	// true
	// gotheus:
	// conflicting definition:
	// hits_total:
	// it already has labels ["page"], not ["path"]:
	// use the same, or choose another name
}

func ExampleVec_With() {
	r := new(gotheus.Registry)
	jobs := r.NewGaugeVec("jobs", "Jobs by queue and state.", nil, "queue", "state")
	running := jobs.With("mail", "running") // an instrument can be retained
	running.Inc()
	running.Inc()
	running.Dec()
	fmt.Println(jobs.With("mail", "running").Value())
	// Output: 1
}

func ExampleVec_WithLabels() {
	r := new(gotheus.Registry)
	jobs := r.NewGaugeVec("jobs", "Jobs by queue and state.", nil, "queue", "state")
	jobs.WithLabels(gotheus.Labels{"state": "running", "queue": "mail"}).Set(3)
	fmt.Println(jobs.With("mail", "running").Value())
	// Output: 3
}

func ExampleVec_TryWith() {
	r := new(gotheus.Registry)
	jobs := r.NewGaugeVec("jobs", "Jobs by queue and state.", nil, "queue", "state")
	_, err := jobs.TryWith("mail")
	fmt.Println(err)
	// Output: gotheus: wrong labels: jobs has labels ["queue" "state"], but the values given are ["mail"]
}

func ExampleHistogram_ObserveSince() {
	r := new(gotheus.Registry)
	latency := r.NewHistogram("order_seconds", "Time to take an order.", &gotheus.HistogramOptions{
		Unit:    "seconds",
		Buckets: gotheus.ExponentialBuckets(.001, 10, 4),
	})
	order := func() {
		defer latency.ObserveSince(time.Now()) // also if it panics
	}
	order()
	fmt.Println(latency.Count())
	// Output: 1
}

func ExampleSummary() {
	r := new(gotheus.Registry)
	size := r.NewSummary("reply_bytes", "Sizes of replies.", nil)
	size.Observe(120)
	size.Observe(80)
	fmt.Println(size.Count(), size.Sum())
	// Output: 2 200
}

func ExampleGauge() {
	r := new(gotheus.Registry)
	depth := r.NewGauge("queue_depth", "Messages waiting.", nil)
	depth.Set(10)
	depth.Inc()
	depth.Add(-2.5)
	fmt.Println(depth.Value())
	// Output: 8.5
}

func ExampleRegistry_Register() {
	depths := map[string]int{"mail": 3, "sms": 0}
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	remove := r.Register(gotheus.CollectorFunc(func(ctx context.Context, s *gotheus.Sink) error {
		g := s.Gauge("queue_depth", "Messages waiting.", "queue")
		for queue, n := range depths {
			g.Put(float64(n), queue)
		}
		return ctx.Err()
	}))
	defer remove()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP queue_depth Messages waiting.
	// # TYPE queue_depth gauge
	// queue_depth{queue="mail"} 3
	// queue_depth{queue="sms"} 0
}

func ExampleGauge_Sub() {
	free := new(gotheus.Registry).NewGauge("disk_free_bytes", "Space that is left.", nil)
	free.Set(1000)
	free.Sub(300) // a file is written
	free.Sub(-50) // the same as Add(50)
	fmt.Println(free.Value())
	// Output: 750
}

// A custom exporter: all data of each series, here as lines for another system.
func ExampleFamily_Points() {
	r := new(gotheus.Registry)
	r.NewCounterVec("requests_total", "Requests served.", nil, "path").With("/").Add(2)
	h := r.NewHistogram("latency_seconds", "Latency.", &gotheus.HistogramOptions{Buckets: []float64{.1, 1}})
	h.Observe(.5)
	for family, err := range r.Families(context.Background()) {
		if err != nil {
			fmt.Println(err) // what other processes did is not known
			break
		}
		for p := range family.Points() {
			if d := p.Distribution; d != nil {
				fmt.Println(family.Name, p.Labels, "count", d.Count, "sum", d.Sum, "up to", family.Bounds, d.Buckets)
			} else {
				fmt.Println(family.Name, p.Labels, p.Number.Value())
			}
		}
	}
	// Output:
	// latency_seconds [] count 1 sum 0.5 up to [0.1 1] [0 1]
	// requests_total [{path /}] 2
}

// The lines of a page.
func ExampleRegistry_Families() {
	r := new(gotheus.Registry)
	r.NewCounterVec("requests_total", "Requests served.", nil, "path").With("/").Add(2)
	for family, err := range r.Families(context.Background()) {
		if err != nil {
			fmt.Println(err) // what other processes did is not known
			break
		}
		for sample := range family.Samples() {
			fmt.Println(family.Type, sample.Name, sample.Labels, sample.Value)
		}
	}
	// Output: counter requests_total [{path /}] 2
}

// A counter that many goroutines and processes of a host increment all the time. With stripes, each
// processor writes to its own cache line, and the page shows the sum.
func ExampleCounterOptions_stripes() {
	dir, _ := os.MkdirTemp("", "example")
	defer os.RemoveAll(dir)
	url := "shm://" + filepath.Join(dir, "shop") + "?fs=any"

	one, other := new(gotheus.Registry), new(gotheus.Registry)
	for _, r := range []*gotheus.Registry{one, other} {
		if err := r.Bind(context.Background(), url); err != nil {
			fmt.Println(err)
		}
		defer r.Close(context.Background())
	}
	o := &gotheus.CounterOptions{Stripes: 2} // as many as processors increment it at once
	one.NewCounter("packets_total", "Packets seen.", o).Add(3)
	other.NewCounter("packets_total", "Packets seen.", o).Inc()
	for f := range one.Families(context.Background()) {
		for s := range f.Samples() {
			if f.Name == "packets_total" {
				fmt.Println(s.Name, s.Value)
			}
		}
	}
	// Output: packets_total 4
}

func ExampleGaugeOptions_mode() {
	r := new(gotheus.Registry)
	inFlight := r.NewGauge("jobs_in_flight", "Jobs being worked on, by all live processes.", &gotheus.GaugeOptions{
		Mode: gotheus.ModeSum,
	})
	job := func() {
		inFlight.Inc()
		defer inFlight.Dec() // also if the job panics
	}
	job()
	fmt.Println(inFlight.Value())
	// Output: 0
}
