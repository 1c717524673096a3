package metrichttp_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/store"
)

// Two processes share a backend, and each is scraped as a target of its own.
func ExampleHandler_scope() {
	ctx := context.Background()
	c := &store.Config{Shards: []store.Store{new(backendtest.Memory)}} // in place of a server
	var processes []*gotheus.Registry
	for i := range 2 {
		r := gotheus.NewRegistry(nil)
		if err := r.BindStore(ctx, c); err != nil {
			fmt.Println(err)
			return
		}
		defer r.Close(ctx)
		r.NewCounter("jobs_done_total", "Jobs that are done.", nil).Add(float64(1 + i))
		r.Flush(ctx) // processes do this periodically
		processes = append(processes, r)
	}
	for _, scope := range []gotheus.Scope{gotheus.ScopeAll, gotheus.ScopeOwn, gotheus.ScopeLeader} {
		for i, r := range processes {
			h := &metrichttp.Handler{Registry: r, Scope: scope}
			page := httptest.NewRecorder()
			h.ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
			_, value, shown := strings.Cut(page.Body.String(), "\njobs_done_total ")
			value, _, _ = strings.Cut(value, "\n")
			if !shown {
				value = "-"
			}
			fmt.Println(scope, i, value)
		}
	}
	// Output:
	// all 0 3
	// all 1 3
	// own 0 1
	// own 1 2
	// leader 0 3
	// leader 1 -
}
