package metrichttp_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"

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
