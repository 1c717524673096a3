//go:build go1.27

package gotheus_test

import (
	"os"

	"github.com/gotheus/gotheus"
)

func ExampleRegistry_NewCounterOf() {
	type request struct {
		Method string
		Code   int
	}
	r := gotheus.NewRegistry(nil)
	requests := r.NewCounterOf[request]("requests_total", "Requests served.", nil)
	requests.With(request{"GET", 200}).Inc()
	r.WriteText(os.Stdout)
	// Output:
	// # HELP requests_total Requests served.
	// # TYPE requests_total counter
	// requests_total{code="200",method="GET"} 1
}
