package metrichttp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

func ExamplePusher() {
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		page, _ := io.ReadAll(r.Body)
		fmt.Printf("%s %s\n%s", r.Method, r.URL, page)
	}))
	defer gateway.Close()

	registry := gotheus.NewRegistry(nil)
	registry.NewGauge("backup_bytes", "Size of the last backup.", nil).Set(123456)
	p := &metrichttp.Pusher{URL: gateway.URL, Job: "backup", Grouping: gotheus.Labels{"path": "/srv"}, Registry: registry}
	if err := p.Put(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// PUT /metrics/job/backup/path@base64/L3Nydg
	// # HELP backup_bytes Size of the last backup.
	// # TYPE backup_bytes gauge
	// backup_bytes 123456
}

// A program pushes its page every minute, and once more before it ends. If it runs as several
// processes that share a backend, all of them can do so: to one group, as here, each pushes the
// total.
func ExamplePusher_Run() {
	ctx, stop := context.WithCancel(context.Background()) // in a program: signal.NotifyContext
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		page, _ := io.ReadAll(r.Body)
		fmt.Printf("%s %s %s\n%s", r.Method, r.URL, r.Header.Get("Authorization"), page)
		stop()
	}))
	defer gateway.Close()

	registry := gotheus.NewRegistry(nil)
	registry.NewCounter("orders_total", "Orders taken.", nil).Inc()
	registry.NewGauge("queue_length", "Orders waiting.", nil).Set(2)
	p := &metrichttp.Pusher{
		URL: gateway.URL, Job: "shop", Registry: registry,
		Header: http.Header{"Authorization": {"Bearer token"}},
		Names:  []string{"orders_total"},
		Error:  func(err error) { log.Print(err) },
	}
	if err := p.Run(ctx, time.Minute); err != nil { // of the last push
		fmt.Println(err)
	}
	registry.Close(context.Background()) // not before
	// Output:
	// POST /metrics/job/shop Bearer token
	// # HELP orders_total Orders taken.
	// # TYPE orders_total counter
	// orders_total 1
	// POST /metrics/job/shop Bearer token
	// # HELP orders_total Orders taken.
	// # TYPE orders_total counter
	// orders_total 1
}

func ExampleServe() {
	listener, err := net.Listen("tcp", "localhost:0") // ListenAndServe takes an address instead
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // in a program: signal.NotifyContext
	defer stop()
	done := make(chan error)
	go func() {
		done <- metrichttp.Serve(ctx, listener, &metrichttp.Handler{Registry: gotheus.NewRegistry(nil)})
	}()

	resp, err := http.Get("http://" + listener.Addr().String() + "/metrics")
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()
	fmt.Println(resp.Status, resp.Header.Get("Content-Type"))
	stop()
	fmt.Println(<-done)
	// Output:
	// 200 OK text/plain; version=0.0.4; charset=utf-8
	// <nil>
}
