package gotheus_test

import (
	"os"

	"github.com/gotheus/gotheus"
)

// A part of a program gets a view of its registry, with names and labels of its own.
func ExampleRegistry_Sub() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Prefix: "shop_"})
	cache := r.Sub("cache_", gotheus.Labels{"tier": "1"})
	cache.NewCounter("hits_total", "Requests that the cache has answered.", nil).Inc()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP shop_cache_hits_total Requests that the cache has answered.
	// # TYPE shop_cache_hits_total counter
	// shop_cache_hits_total{tier="1"} 1
}

// A library with a registry of its own is shown on the program's page.
func ExampleRegistry_Include() {
	library := gotheus.NewRegistry(&gotheus.RegistryOptions{Prefix: "lib_"})
	library.NewGauge("connections", "Open connections.", nil).Set(3)

	r := gotheus.NewRegistry(nil)
	r.NewCounter("requests_total", "Requests served.", nil).Inc()
	remove := r.Include(library)
	defer remove()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP lib_connections Open connections.
	// # TYPE lib_connections gauge
	// lib_connections 3
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total 1
}
