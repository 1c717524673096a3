// The code in docs/*.md that is not part of an example or of another module.

package gotheus_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/collectors"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/metrictest"
)

var _ = func(ctx context.Context) {
	gotheus.Bind(ctx, "shm:///dev/shm/shop") // or GOTHEUS_BACKEND=shm:///dev/shm/shop
}

var _ = func() error {
	listener, err := net.Listen("tcp", "localhost:8080")
	if err != nil {
		return err
	}
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	for range 3 {
		worker := exec.Command(os.Args[0], "worker")
		worker.Env = append(os.Environ(), "GOTHEUS_BACKEND=shm:///dev/shm/shop")
		worker.ExtraFiles = []*os.File{file} // descriptor 3
		if err := worker.Start(); err != nil {
			return err
		}
	}
	return nil
}

var _ = func() error {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	http.Handle("/metrics", &metrichttp.Handler{})
	return http.Serve(listener, nil)
}

var _ = func(queue chan int, version string) {
	gotheus.NewGaugeFunc("queue_length", "Messages waiting.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum},
		func() (float64, error) { return float64(len(queue)), nil })
	gotheus.NewInfo("shop_info", "Which shop this is.", gotheus.Labels{"version": version})
	collectors.Register(nil) // go_*, process_*, go_build_info
}

var _ = func() *gotheus.Gauge {
	inFlight := gotheus.NewGauge("jobs_in_flight", "Jobs being worked on.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum})
	return inFlight
}

var _ = func() *gotheus.Histogram {
	h := gotheus.NewHistogram("request_seconds", "Time to answer.", &gotheus.HistogramOptions{
		Native:  &gotheus.NativeOptions{Factor: 1.1}, // or SchemaFactor(3)
		Buckets: []float64{.1, .5},                   // optional: classic buckets, too
	})
	return h
}

var _ = func() *gotheus.Summary {
	s := gotheus.NewSummary("request_seconds", "Time to answer.", &gotheus.SummaryOptions{
		Objectives: []float64{.5, .9, .99},
	})
	return s
}

var _ = func(ctx context.Context, orders *gotheus.Counter, latency *gotheus.Histogram, id string, seconds float64) {
	orders.AddExemplar(1, gotheus.Labels{"trace_id": id})
	latency.ObserveContext(ctx, seconds) // labels: RegistryOptions.Exemplar(ctx)
}

var _ = func(requests *gotheus.CounterVec) {
	requests.Delete("acme", "/")                              // one label set
	requests.DeleteMatching(gotheus.Labels{"tenant": "acme"}) // all with these values
	requests.DeleteAll()                                      // all of the Vec or Partial
}

var _ = func(mux *http.ServeMux) error {
	measured := new(metrichttp.Middleware).Wrap(mux)
	return http.ListenAndServe("localhost:8080", measured)
}

var _ = func(ctx context.Context, mux *http.ServeMux) error {
	mux.Handle("/metrics", new(metrichttp.Handler))              // in your own server
	err := metrichttp.ListenAndServe(ctx, "localhost:9100", nil) // or in one of its own
	return err
}

var _ = func(ctx context.Context, host string) (*metrichttp.Pusher, error) {
	p := &metrichttp.Pusher{URL: "http://pushgateway:9091", Job: "nightly", Grouping: gotheus.Labels{"instance": host}}
	err := p.Put(ctx) // Put replaces the group, Post its families of the same names
	return p, err
}

var _ = func(ctx context.Context, p *metrichttp.Pusher) error {
	err := p.Run(ctx, time.Minute) // until ctx ends; errors go to p.Error or the log
	return err
}

type shop struct{ orders *gotheus.CounterVec }

func newShop(r *gotheus.Registry) *shop {
	return &shop{r.NewCounterVec("orders_total", "Orders taken.", nil, "country")}
}

func (s *shop) order(country string) { s.orders.With(country).Inc() }

func TestOrder(t *testing.T) {
	r := new(gotheus.Registry)
	s := newShop(r)
	s.order("SE")
	metrictest.Want(t, r, `orders_total{country="SE"}`, 1)
}
