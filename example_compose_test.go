package gotheus_test

import (
	"context"
	"errors"
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

// Two views with the same name, prefix included, and other constant labels are in conflict, like
// two definitions in one registry. With a prefix of its own for each, they are not.
func ExampleRegistry_Sub_conflict() {
	r := gotheus.NewRegistry(nil)
	for _, of := range []struct{ prefix, pool string }{{"", "a"}, {"", "b"}, {"b_", "b"}} {
		pool := r.Sub(of.prefix, gotheus.Labels{"pool": of.pool})
		_, err := gotheus.TryNew[gotheus.Gauge](pool, "connections", "Open connections.", nil)
		fmt.Println(errors.Is(err, gotheus.ErrConflict))
	}
	// Output:
	// false
	// true
	// false
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
