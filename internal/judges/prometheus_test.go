package judges

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/needs"
	"github.com/gotheus/gotheus/metrichttp"
)

// TestPrometheus has a Prometheus server scrape this program, and compares what its API returns.
// Debian's server asks for OpenMetrics, and for protobuf where native histograms are switched on.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("prometheus")
	needs.Check(t, "prometheus", err, "as root, ./test.sh installs Debian's")
	for name, c := range map[string]struct{ flag, contentType string }{
		"text":     {"", "application/openmetrics-text; version=1.0.0"},
		"protobuf": {"--enable-feature=native-histograms", "application/vnd.google.protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := gotheus.NewRegistry(nil)
			r.NewCounterVec("shop_orders_total", "Orders.", nil, "country", "paid.by").With("SE", "a \"card\"\n").Add(3)
			r.NewGauge("shop.temperature", "Degrees.", nil).Set(-4.5)
			h := r.NewHistogram("shop_seconds", "Time.", &gotheus.HistogramOptions{Buckets: []float64{1, 2.5}})
			for _, v := range []float64{.5, 2, 7} {
				h.Observe(v)
			}
			r.NewSummary("shop_sizes", "Sizes.", nil).Observe(12)
			// For one such byte, it would reject the page.
			r.NewCounter("shop_traced_total", "Traces.", nil).AddExemplar(1, gotheus.Labels{"trace_id": "a\x00b"})

			var mu sync.Mutex
			served := make(map[string]bool)
			handler := &metrichttp.Handler{Registry: r}
			target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
				handler.ServeHTTP(answer, r)
				if answer.status == http.StatusServiceUnavailable {
					return // the machine was too slow for a page
				}
				mu.Lock()
				defer mu.Unlock()
				served[w.Header().Get("Content-Type")] = true
			}))
			defer target.Close()
			api := startPrometheus(t, binary, c.flag, target.Listener.Addr().String())
			for query, want := range map[string]float64{
				`up`: 1,
				`shop_orders_total{country="SE",paid_by="a \"card\"\n"}`: 3,
				`shop_temperature`:               -4.5,
				`shop_seconds_bucket{le="1.0"}`:  1,
				`shop_seconds_bucket{le="2.5"}`:  2,
				`shop_seconds_bucket{le="+Inf"}`: 3,
				`shop_seconds_count`:             3,
				`shop_seconds_sum`:               9.5,
				`shop_sizes_sum`:                 12,
				`shop_sizes_count`:               1,
			} {
				if got := ask(t, api, query); got != want {
					t.Errorf("%s = %v, want %v", query, got, want)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for contentType := range served {
				if !strings.HasPrefix(contentType, c.contentType) {
					t.Errorf("served as %s", contentType)
				}
			}
		})
	}
}

// statusWriter notes which status an answer has.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// startPrometheus starts a server that scrapes the target, and returns the URL of its API.
func startPrometheus(t *testing.T, binary, flag, target string) string {
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- {job_name: test, static_configs: [{targets: [%q]}]}\n", target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := startServer(t, dir, binary, func(addr string) []string {
		args := []string{"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr, "--log.level=warn"}
		if flag != "" {
			args = append(args, flag)
		}
		return args
	})
	return "http://" + addr + "/api/v1/query?query="
}

// ask asks until there is an answer, since the first scrape comes when it comes.
func ask(t *testing.T, api, query string) float64 {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		var answer struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		resp, err := http.Get(api + url.QueryEscape(query))
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				_ = json.Unmarshal(body, &answer) // not yet an answer
			}
		}
		if list := answer.Data.Result; len(list) == 1 {
			v, err := strconv.ParseFloat(fmt.Sprint(list[0].Value[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			if query != "up" || v == 1 {
				return v
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer to %s: %v, %+v", query, err, answer)
		}
		time.Sleep(50 * time.Millisecond) // a poll of another process
	}
}
