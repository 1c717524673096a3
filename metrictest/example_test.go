package metrictest_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/metrictest"
)

// t stands for the *testing.T of a test; it prints what goes wrong.
var t printer

type printer struct{}

func (printer) Helper()                           {}
func (printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (printer) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// shop is the code under test. It takes the registry for its metrics.
type shop struct{ orders *gotheus.Vec[gotheus.Counter] }

func newShop(r *gotheus.Registry) *shop {
	return &shop{r.NewCounterVec("orders_total", "Orders.", nil, "country")}
}

func (s *shop) order(country string) { s.orders.With(country).Inc() }

func Example() {
	// func TestOrder(t *testing.T) {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE")
	metrictest.Want(t, r, `orders_total{country="SE"}`, 1)
	metrictest.Lint(t, r)
	// }

	metrictest.Want(t, r, `orders_total{country="SE"}`, 2) // fails
	// Output: orders_total{country="SE"} is 1, want 2
}

func ExampleDelta() {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE") // the value before does not matter
	d := metrictest.Delta(s.orders.With("SE"), func() {
		s.order("SE")
		s.order("NO")
	})
	fmt.Println(d)
	// Output: 1
}

func ExampleCount() {
	h := new(gotheus.Registry).NewHistogram("latency_seconds", "Latency.", nil)
	fmt.Println(metrictest.Delta(metrictest.Count(h), func() { h.Observe(.2) }))
	// Output: 1
}

func ExampleSum() {
	h := new(gotheus.Registry).NewHistogram("latency_seconds", "Latency.", nil)
	fmt.Println(metrictest.Delta(metrictest.Sum(h), func() { h.Observe(.25) }))
	// Output: 0.25
}

func ExampleCompare() {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE")
	metrictest.Compare(t, r, `
		# TYPE orders_total counter
		orders_total{country="SE"} 1`)
	// Output:
}

func ExampleWant() {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE")
	s.order("NO")
	metrictest.Want(t, r, `orders_total{country="SE"}`, 1) // passes
	metrictest.Want(t, r, `orders_total{country="DK"}`, 1)
	// Output:
	// orders_total{country="DK"} is not on the page; there are:
	// 	orders_total{country="NO"} 1
	// 	orders_total{country="SE"} 1
}

func ExampleLint() {
	r := new(gotheus.Registry)
	r.NewCounter("orders", "Orders.", nil)
	r.NewGauge("old_ms", "Named long ago.", nil)
	metrictest.Lint(t, r, "old_ms") // too late to rename it
	// Output: orders: the name of a counter should end in _total
}

func ExampleRead() {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE")
	s.order("NO")
	p, err := metrictest.Read(r)
	if err != nil {
		panic(err)
	}
	sweden, _ := p.Value(`orders_total{country="SE"}`)
	norway, _ := p.Value(`orders_total{country="NO"}`)
	fmt.Println(sweden + norway)
	// Output: 2
}

// A page from any source, like a program that is not written in Go.
func ExampleParse() {
	p, err := metrictest.Parse("# TYPE up gauge\nup{b=\"2\",a=\"1\"} 1\n")
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Value(`up{a="1", b="2"}`))
	_, err = metrictest.Parse("up 1\nup 2\n")
	fmt.Println(err)
	// Output:
	// 1 true
	// metrictest: line 2, "up 2": the series occurs twice
}

func ExamplePage_Value() {
	p, err := metrictest.Parse("up 1\n")
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Value("up"))
	fmt.Println(p.Value("down"))
	// Output:
	// 1 true
	// 0 false
}

func ExamplePage_Series() {
	r := new(gotheus.Registry)
	newShop(r).order("SE")
	// one, however many buckets it has
	r.NewHistogram("latency_seconds", "Latency.", nil).Observe(.2)
	p, err := metrictest.Read(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Series("orders_total"), p.Series("latency_seconds"), p.Series())
	// Output: 1 1 2
}

func ExamplePage_Diff() {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE")
	p, err := metrictest.Read(r)
	if err != nil {
		panic(err)
	}
	d, _ := p.Diff(`
		orders_total{country="SE"} 2
		orders_total{country="NO"} 1`)
	fmt.Println(d)
	// Output:
	// -orders_total{country="NO"} 1
	// -orders_total{country="SE"} 2
	// +orders_total{country="SE"} 1
}

func ExampleReadHandler() {
	r := new(gotheus.Registry)
	newShop(r).order("SE")
	p, err := metrictest.ReadHandler(&metrichttp.Handler{Registry: r})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Value(`orders_total{country="SE"}`))
	fmt.Println(p.Series(), "series")
	// Output:
	// 1 true
	// 1 series
}

func ExampleReadURL() {
	r := new(gotheus.Registry)
	newShop(r).order("SE")
	server := httptest.NewServer(&metrichttp.Handler{Registry: r})
	defer server.Close()
	p, err := metrictest.ReadURL(context.Background(), nil, server.URL)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Series("orders_total"), "series")
	// Output: 1 series
}

func ExamplePage_Lint() {
	r := new(gotheus.Registry)
	r.NewCounter("wait_ms", "Time spent waiting.", nil)
	p, err := metrictest.Read(r)
	if err != nil {
		panic(err)
	}
	for _, problem := range p.Lint() {
		fmt.Println(problem)
	}
	// Output:
	// wait_ms: the name of a counter should end in _total
	// wait_ms: use the base unit seconds instead of ms
}

// Time stands still except where the test advances it.
func Example_clock() {
	now := time.Unix(1000, 0)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Now: func() time.Time { return now }})
	latency := r.NewSummary("latency_seconds", "Latency.", nil)
	func() {
		defer latency.ObserveSince(r.Now())
		now = now.Add(1500 * time.Millisecond)
	}()
	metrictest.Want(t, r, "latency_seconds_sum", 1.5)
	// Output:
}
