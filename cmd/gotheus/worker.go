package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/collectors"
	"github.com/gotheus/gotheus/metrichttp"
)

// This file is a complete service with metrics. It runs as several processes at once and needs to
// know nothing about that: the metrics are ordinary variables, and every process serves the total
// of all.

var (
	orders = gotheus.NewCounterVec("shop_orders_total",
		"Orders, by what was ordered and what became of it.", nil, "item", "result")

	delivery = gotheus.NewHistogram("shop_delivery_seconds",
		"Time that the warehouse took to deliver.", &gotheus.HistogramOptions{
			Unit:    "seconds",
			Buckets: []float64{.01, .02, .03, .04, .05, .1},
		})
)

// shop returns the service: its pages, the metrics' page, and around them the middleware, which
// measures every request by method, route and status.
func shop() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", sell)
	mux.HandleFunc("/slow", sellSlowly)
	mux.HandleFunc("/fail", sellNothing)
	mux.Handle("/metrics", &metrichttp.Handler{})
	return new(metrichttp.Middleware).Wrap(mux)
}

func sell(w http.ResponseWriter, r *http.Request) {
	item := itemOf(r)
	orders.With(item, "sold").Inc()
	fmt.Fprintf(w, "Here is your %s.\n", item)
}

func sellSlowly(w http.ResponseWriter, r *http.Request) {
	defer delivery.ObserveSince(time.Now())
	time.Sleep(10*time.Millisecond + rand.N(40*time.Millisecond)) // the warehouse
	sell(w, r)
}

func sellNothing(w http.ResponseWriter, r *http.Request) {
	orders.With(itemOf(r), "failed").Inc()
	http.Error(w, "The till is broken.", http.StatusInternalServerError)
}

// itemOf returns the requested item. Clients must not be able to choose label values freely, or the
// number of series would be unbounded.
func itemOf(r *http.Request) string {
	switch item := r.FormValue("item"); item {
	case "tea", "coffee", "cake":
		return item
	case "":
		return "tea"
	}
	return "other"
}

// serveShop binds the metrics to the backend, calls ready, and serves until ctx ends: the shop to
// customers, the metrics' page also on a listener of this process's own.
func serveShop(ctx context.Context, backend string, public, admin net.Listener, ready func()) error {
	if err := gotheus.Bind(ctx, backend); err != nil {
		return err // a service that matters more than its metrics would log this and go on
	}
	collectors.Register(nil) // go_*, process_*: each process's own, on the page of all
	handler, name := shop(), fmt.Sprintf("shop/%d", os.Getpid())
	customers := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", name) // lets one see which process answered
		handler.ServeHTTP(w, r)
	}), ReadHeaderTimeout: 5 * time.Second}
	mux := http.NewServeMux()
	mux.Handle("/metrics", &metrichttp.Handler{})
	admins := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}

	failed := make(chan error, 2)
	go func() { failed <- customers.Serve(public) }()
	go func() { failed <- admins.Serve(admin) }()
	ready()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	patience, cancel := context.WithTimeout(end, time.Second)
	defer cancel()
	if err := errors.Join(customers.Shutdown(patience), admins.Shutdown(patience)); err != nil {
		customers.Close() // remaining customers have had a second
		admins.Close()
	}
	return gotheus.Close(end)
}
