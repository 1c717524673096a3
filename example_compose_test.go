package gotheus_test

import (
	"context"
	"fmt"
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

// Labels from a configuration, which may be wrong.
func ExampleRegistry_TrySub() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "eu"}})
	for _, labels := range []gotheus.Labels{{"zone": "b"}, {"region": "us"}} {
		_, err := r.TrySub("cache_", labels)
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// gotheus: invalid definition: constant label "region": the registry has it already, with the value "eu"
}

// Parts of a program define the same metrics, told apart by a constant label. They must agree about
// everything else.
func ExampleRegistry_Sub_sameName() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	for _, name := range []string{"orders", "users"} {
		pool := r.Sub("pool_", gotheus.Labels{"pool": name})
		pool.NewGauge("connections", "Open connections.", nil).Inc()
	}
	show(r)
	_, err := gotheus.TryNew[gotheus.Gauge](r, "pool_connections", "Open connections.", nil)
	explain(err)
	// Output:
	// pool_connections{pool="orders"} 1
	// pool_connections{pool="users"} 1
	// gotheus:
	// conflicting definition:
	// pool_connections:
	// it already has the constant labels ["pool"], not []:
	// use the same, or choose another name
}

// A collector that is registered through views gives the same family with the labels of each.
func ExampleRegistry_Sub_collector() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	size := gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("table_rows", "Rows of the table.").Put(7)
		return nil
	})
	for _, table := range []string{"orders", "users"} {
		r.Sub("", gotheus.Labels{"table": table}).Register(size)
	}
	show(r)
	// Output:
	// table_rows{table="orders"} 7
	// table_rows{table="users"} 7
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
