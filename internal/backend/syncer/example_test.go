package syncer_test

import (
	"context"
	"fmt"
	"os"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/syncer"
)

// Series are spread over two stores; a page has all of them.
func ExampleNewSharded() {
	ctx := context.Background()
	stores := []backend.Store{new(backendtest.Memory), new(backendtest.Memory)} // in place of two servers
	b, err := syncer.NewSharded(stores, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	if err := r.BindBackend(ctx, b); err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close(ctx)
	v := r.NewCounterVec("jobs_done_total", "Jobs that are done.", nil, "queue")
	for _, queue := range []string{"a", "b", "c"} {
		v.With(queue).Inc()
	}
	r.WriteText(os.Stdout)
	// Output:
	// # HELP jobs_done_total Jobs that are done.
	// # TYPE jobs_done_total counter
	// jobs_done_total{queue="a"} 1
	// jobs_done_total{queue="b"} 1
	// jobs_done_total{queue="c"} 1
}
