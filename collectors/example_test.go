package collectors_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/collectors"
)

// names prints which families of these names there are.
func names(r *gotheus.Registry, of ...string) {
	for f := range r.Families(context.Background()) {
		for _, name := range of {
			if f.Name == name {
				fmt.Println(f.Name, f.Type)
			}
		}
	}
}

func ExampleRegister() {
	r := new(gotheus.Registry) // nil: the default one
	collectors.Register(r)
	names(r, "go_goroutines", "go_gc_duration_seconds", "go_build_info")
	// Output:
	// go_build_info info
	// go_gc_duration_seconds summary
	// go_goroutines gauge
}

// Some of the default families, and two others.
func ExampleGo() {
	r := new(gotheus.Registry)
	r.Register(&collectors.Go{Choose: func(name string, byDefault bool) bool {
		switch name {
		case "go_sched_latencies_seconds", "go_gc_cycles_total_gc_cycles_total":
			return true
		}
		return byDefault && !strings.HasPrefix(name, "go_memstats_")
	}})
	names(r, "go_goroutines", "go_sched_latencies_seconds", "go_memstats_alloc_bytes", "go_gc_cycles_total_gc_cycles_total")
	// Output:
	// go_gc_cycles_total_gc_cycles_total counter
	// go_goroutines gauge
	// go_sched_latencies_seconds histogram
}

func ExampleProcess() {
	r := new(gotheus.Registry)
	r.Register(new(collectors.Process))
	for f := range r.Families(context.Background()) { // on Linux, much more
		if f.Name == "gotheus_collector_errors_total" {
			fmt.Println("nothing has failed")
		}
	}
	// Output: nothing has failed
}

func ExampleBuildInfo() {
	r := new(gotheus.Registry)
	r.Register(collectors.BuildInfo{})
	names(r, "go_build_info")
	// Output: go_build_info info
}

func ExampleDB() {
	var orders, users sql.DB // from sql.Open
	r := new(gotheus.Registry)
	r.Register(&collectors.DB{DB: &orders, Name: "orders"})
	r.Register(&collectors.DB{DB: &users, Name: "users"})
	names(r, "go_sql_open_connections", "go_sql_wait_count_total")
	// Output:
	// go_sql_open_connections gauge
	// go_sql_wait_count_total counter
}
