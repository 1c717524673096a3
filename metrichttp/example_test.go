package metrichttp_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/metrichttp"
)

func ExampleHandler() {
	registry := gotheus.NewRegistry(nil)
	registry.NewCounter("jobs_done_total", "Jobs that are done.", nil).Add(3)

	mux := http.NewServeMux()
	// new(metrichttp.Handler) serves the default registry
	mux.Handle("/metrics", &metrichttp.Handler{Registry: registry})
	server := httptest.NewServer(mux)
	defer server.Close()

	resp, err := http.Get(server.URL + "/metrics")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	page, _ := io.ReadAll(resp.Body)
	fmt.Print(string(page))
	// Output:
	// # HELP jobs_done_total Jobs that are done.
	// # TYPE jobs_done_total counter
	// jobs_done_total 3
}

func ExampleMiddleware() {
	registry := gotheus.NewRegistry(nil)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hi/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!", r.PathValue("name"))
	})
	m := &metrichttp.Middleware{
		Registry: registry,
		Skip:     func(r *http.Request) bool { return r.URL.Path == "/healthz" },
	}
	server := httptest.NewServer(m.Wrap(mux))
	defer server.Close()

	for _, path := range []string{"/hi/world", "/hi/again", "/bye", "/healthz"} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = resp.Body.Close()
	}

	var page strings.Builder
	_ = registry.WriteText(&page)
	for line := range strings.Lines(page.String()) {
		if strings.HasPrefix(line, "http_request_duration_seconds_count") || strings.HasPrefix(line, "http_response_size_bytes_sum") {
			fmt.Print(line)
		}
	}
	// Output:
	// http_request_duration_seconds_count{method="GET",route="/hi/{name}",status_code="200"} 2
	// http_request_duration_seconds_count{method="GET",route="404",status_code="404"} 1
	// http_response_size_bytes_sum{method="GET",route="/hi/{name}",status_code="200"} 26
	// http_response_size_bytes_sum{method="GET",route="404",status_code="404"} 19
}
