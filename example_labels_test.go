package gotheus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/gotheus/gotheus"
)

func ExampleVecOf() {
	r := new(gotheus.Registry)
	type request struct {
		Method string
		Status int  `label:"code"`
		Cached bool // "true" or "false"
	}
	requests := gotheus.Must(gotheus.TryNewVecOf[request, gotheus.Counter](r, "requests_total", "Requests served.", nil))

	requests.With(request{Method: "GET", Status: 200}).Inc()
	requests.With(request{"PUT", 201, true}).Add(2)
	r.WriteText(os.Stdout)
	// Output:
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total{cached="false",code="200",method="GET"} 1
	// requests_total{cached="true",code="201",method="PUT"} 2
}

func ExampleNewCounterOf() {
	gotheus.SetDefault(new(gotheus.Registry)) // for this example only

	type mail struct{ Kind, Language string }
	mails := gotheus.NewCounterOf[mail]("mails_total", "Mails sent.", nil)

	mails.With(mail{Kind: "welcome", Language: "sv"}).Inc()
	gotheus.Default().WriteText(os.Stdout)
	// Output:
	// # HELP mails_total Mails sent.
	// # TYPE mails_total counter
	// mails_total{kind="welcome",language="sv"} 1
}

func ExampleNewGaugeOf() {
	gotheus.SetDefault(new(gotheus.Registry)) // for this example only

	type queue struct{ Name string }
	depth := gotheus.NewGaugeOf[queue]("queue_depth", "Messages waiting.", nil)
	depth.With(queue{"mail"}).Set(3)
	fmt.Println(depth.With(queue{"mail"}).Value())
	// Output: 3
}

func ExampleNewHistogramOf() {
	gotheus.SetDefault(new(gotheus.Registry)) // for this example only

	type job struct {
		Queue string
		Day   time.Weekday // its String gives the value
	}
	took := gotheus.NewHistogramOf[job]("job_seconds", "How long jobs took.", &gotheus.HistogramOptions{Buckets: []float64{1}})
	took.With(job{"mail", time.Monday}).Observe(.5)
	gotheus.Default().WriteText(os.Stdout)
	// Output:
	// # HELP job_seconds How long jobs took.
	// # TYPE job_seconds histogram
	// job_seconds_bucket{day="Monday",queue="mail",le="1"} 1
	// job_seconds_bucket{day="Monday",queue="mail",le="+Inf"} 1
	// job_seconds_sum{day="Monday",queue="mail"} 0.5
	// job_seconds_count{day="Monday",queue="mail"} 1
}

func ExampleNewSummaryOf() {
	gotheus.SetDefault(new(gotheus.Registry)) // for this example only

	type reply struct{ Route string }
	size := gotheus.NewSummaryOf[reply]("reply_bytes", "Sizes of replies.", nil)
	size.With(reply{"/"}).Observe(120)
	fmt.Println(size.With(reply{"/"}).Sum())
	// Output: 120
}

func ExampleTryNewVecOf() {
	type labels struct{ Ratio float64 }
	_, err := gotheus.TryNewVecOf[labels, gotheus.Counter](new(gotheus.Registry), "x_total", "X.", nil)
	fmt.Println(errors.Is(err, gotheus.ErrInvalid))
	// Output: true
}

func ExampleVecOf_TryDeclare() {
	type page struct{ Path string }
	hits := gotheus.Must(gotheus.TryNewVecOf[page, gotheus.Counter](new(gotheus.Registry), "hits_total", "Hits.", nil))
	err := hits.TryDeclare(page{"\xff"})
	fmt.Println(err)
	// Output: gotheus: wrong labels: hits_total: value "\xff" of label "path" is not UTF-8
}

func ExampleVecOf_Declare() {
	r := new(gotheus.Registry)
	type payment struct {
		By string
		OK bool
	}
	payments := gotheus.Must(gotheus.TryNewVecOf[payment, gotheus.Counter](r, "payments_total", "Payments.", nil)).
		Declare(payment{"card", true}, payment{"card", false})

	payments.With(payment{"card", true}).Inc()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP payments_total Payments.
	// # TYPE payments_total counter
	// payments_total{by="card",ok="false"} 0
	// payments_total{by="card",ok="true"} 1
}

func ExampleVecOf_Vec() {
	type page struct{ Host, Path string }
	hits := gotheus.Must(gotheus.TryNewVecOf[page, gotheus.Counter](new(gotheus.Registry), "hits_total", "Hits.", nil))
	hits.With(page{"example.com", "/"}).Inc()
	fmt.Println(hits.Vec().With("example.com", "/").Value())
	// Output: 1
}

func ExamplePartial() {
	r := new(gotheus.Registry)
	type request struct{ Tenant, Method, Path string }
	requests := gotheus.Must(gotheus.TryNewVecOf[request, gotheus.Counter](r, "requests_total", "Requests served.", nil))

	type route struct{ Method, Path string }
	ofTenant := gotheus.Partial(requests, func(l route) request { return request{"acme", l.Method, l.Path} })
	ofTenant.With(route{"GET", "/"}).Inc()
	fmt.Println(requests.With(request{"acme", "GET", "/"}).Value())
	// Output: 1
}

func ExampleVec_Partial() {
	r := new(gotheus.Registry)
	requests := r.NewCounterVec("requests_total", "Requests served.", nil, "tenant", "method", "path")

	ofTenant := requests.Partial(gotheus.Labels{"tenant": "acme"})
	ofTenant.With("GET", "/").Inc()
	get := ofTenant.Partial(gotheus.Labels{"method": "GET"})
	get.With("/").Inc()
	fmt.Println(requests.With("acme", "GET", "/").Value())
	// Output: 2
}

// Several pools have the same metrics. The pool is an ordinary label, whose value each gives once.
func ExampleVec_Partial_pools() {
	r := new(gotheus.Registry)
	type pool struct {
		open  *gotheus.Gauge
		calls *gotheus.CounterVec
	}
	open := r.NewGaugeVec("pool_open_connections", "Open connections.", nil, "pool")
	calls := r.NewCounterVec("pool_calls_total", "Calls.", nil, "pool", "method")
	newPool := func(name string) pool {
		return pool{open.With(name), calls.Partial(gotheus.Labels{"pool": name})}
	}
	orders, users := newPool("orders"), newPool("users")
	orders.open.Set(2)
	users.open.Set(1)
	users.calls.With("Get").Inc()
	show(r)
	// Output:
	// pool_calls_total{method="Get",pool="users"} 1
	// pool_open_connections{pool="orders"} 2
	// pool_open_connections{pool="users"} 1
}

func ExampleVec_TryPartial() {
	r := new(gotheus.Registry)
	requests := r.NewCounterVec("requests_total", "Requests served.", nil, "tenant", "method")
	_, err := requests.TryPartial(gotheus.Labels{"tennant": "acme"})
	explain(err)
	// Output:
	// gotheus:
	// wrong labels:
	// requests_total has labels ["tenant" "method"]:
	// "tennant" is not one of them
}

func ExampleVec_Declare() {
	r := new(gotheus.Registry)
	orders := r.NewCounterVec("orders_total", "Orders taken.", nil, "country", "paid_by").
		Declare(gotheus.Labels{"country": "SE", "paid_by": "card"}, gotheus.Labels{"country": "SE", "paid_by": "invoice"})

	orders.With("SE", "card").Inc()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP orders_total Orders taken.
	// # TYPE orders_total counter
	// orders_total{country="SE",paid_by="card"} 1
	// orders_total{country="SE",paid_by="invoice"} 0
}

// Defaults and normalisers.
func ExampleCounterOptions() {
	r := new(gotheus.Registry)
	requests := r.NewCounterVec("requests_total", "Requests served.", &gotheus.CounterOptions{
		Defaults: gotheus.Labels{"region": "eu"},
		Normalize: map[string]func(string) string{
			"method": gotheus.OneOf("GET", "PUT"),
			"host":   strings.ToLower,
		},
	}, "method", "host", "region")

	requests.With("GET", "Example.com").Inc()
	requests.With("BREW", "example.com").Inc()
	requests.WithLabels(gotheus.Labels{"method": "GET", "host": "example.com", "region": "us"}).Inc()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total{host="example.com",method="GET",region="eu"} 1
	// requests_total{host="example.com",method="GET",region="us"} 1
	// requests_total{host="example.com",method="other",region="eu"} 1
}

func ExampleOneOf() {
	method := gotheus.OneOf("GET", "PUT")
	fmt.Println(method("GET"), method("BREW"))
	// Output: GET other
}

// Someone tries out random paths.
func ExampleCounterOptions_maxSeries() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	hits := r.NewCounterVec("hits_total", "Hits.", &gotheus.CounterOptions{MaxSeries: 2}, "path")

	for _, path := range []string{"/", "/item", "/.git", "/admin.php", "/item"} {
		hits.With(path).Inc()
	}
	r.WriteText(os.Stdout)
	// Output:
	// # HELP gotheus_overflowed_lookups_total Look-ups of label values that returned the overflow series, by metric.
	// # TYPE gotheus_overflowed_lookups_total counter
	// gotheus_overflowed_lookups_total{metric="hits_total"} 2
	// # HELP hits_total Hits.
	// # TYPE hits_total counter
	// hits_total{path="/"} 1
	// hits_total{path="/item"} 2
	// hits_total{path="gotheus_overflow"} 2
}
