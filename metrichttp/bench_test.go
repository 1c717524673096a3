package metrichttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gotheus/gotheus/metrichttp"
)

// discard is a ResponseWriter that looks like a server's to handlers, but costs nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) Flush()                      {}

func BenchmarkMiddleware(b *testing.B) {
	body := []byte("hello")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	m := &metrichttp.Middleware{Registry: newRegistry()}
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"bare", mux}, {"measured", m.Wrap(mux)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				w, r := &discard{header: http.Header{}}, httptest.NewRequest("GET", "/hello", nil)
				for pb.Next() {
					c.handler.ServeHTTP(w, r)
				}
			})
		})
	}
}

func BenchmarkHandler(b *testing.B) {
	r := newRegistry()
	v := r.NewCounterVec("bench_total", "A counter.", nil, "a")
	for i := range 1000 {
		v.With(string(rune('a'+i%26)) + string(rune('a'+i/26))).Inc()
	}
	for _, coding := range []string{"identity", "gzip"} {
		b.Run(coding, func(b *testing.B) {
			b.ReportAllocs()
			req := httptest.NewRequest("GET", "/metrics", nil)
			req.Header.Set("Accept-Encoding", coding)
			h := &metrichttp.Handler{Registry: r}
			for b.Loop() {
				h.ServeHTTP(&discard{header: http.Header{}}, req)
			}
		})
	}
}
