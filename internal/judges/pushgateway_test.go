package judges

import (
	"context"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/needs"
	"github.com/gotheus/gotheus/metrichttp"
)

// TestPushgateway pushes to a real one, and reads what it shows.
func TestPushgateway(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("prometheus-pushgateway")
	needs.Check(t, "prometheus-pushgateway", err, "as root, ./test.sh installs Debian's")
	dir := t.TempDir()
	addr := startServer(t, dir, binary, func(addr string) []string {
		// Debian's has a default, a file for all Pushgateways of the machine.
		return []string{"--web.listen-address=" + addr, "--log.level=warn", "--persistence.file=" + filepath.Join(dir, "pushed")}
	})

	r := gotheus.NewRegistry(nil)
	r.NewCounterVec("rows_total", "Rows.", nil, "is").With("a \"b\"\n").Add(7)
	r.NewHistogram("seconds", "Time.", &gotheus.HistogramOptions{Buckets: []float64{1}}).Observe(.5)
	r.NewSummary("sizes", "Sizes.", nil).Observe(3)
	r.NewGauge("dotted.level", "Level.", nil).Set(-1.5)
	p := &metrichttp.Pusher{URL: "http://" + addr, Job: "nightly run", Registry: r, Grouping: gotheus.Labels{"path": "/a/b", "zone": "", "dot": ".", "city": "Zürich"}}
	for deadline := time.Now().Add(3 * time.Minute); ; { // until it listens
		if err = p.Put(t.Context()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // a poll of another process
	}
	const group = `{city="Zürich",dot=".",instance="",job="nightly run",path="/a/b"`
	shown := []string{
		`rows_total{city="Zürich",dot=".",instance="",is="a \"b\"\n",job="nightly run",path="/a/b",zone=""} 7`,
		`seconds_bucket` + group + `,zone="",le="1"} 1`, `seconds_count` + group + `,zone=""} 1`, `seconds_sum` + group + `,zone=""} 0.5`,
		`sizes_sum` + group + `,zone=""} 3`, `dotted_level` + group + `,zone=""} -1.5`,
	}
	check := func(present, absent []string) {
		t.Helper()
		page := get(t, "http://"+addr+"/metrics")
		for _, line := range present {
			if !strings.Contains(page, "\n"+line+"\n") {
				t.Errorf("%s is missing: %s", line, page)
			}
		}
		for _, line := range absent {
			if strings.Contains(page, "\n"+line) {
				t.Errorf("%s is there", line)
			}
		}
	}
	check(shown, nil)

	other := *p
	other.Registry = gotheus.NewRegistry(nil)
	other.Registry.NewCounter("more_total", "More.", nil).Inc()
	if err := other.Post(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(append(shown, `more_total`+group+`,zone=""} 1`), nil)
	if err := other.Put(t.Context()); err != nil {
		t.Fatal(err)
	}
	check([]string{`more_total` + group + `,zone=""} 1`}, []string{"rows_total", "seconds_count", "dotted_level"})
	if err := p.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(nil, []string{"rows_total", "more_total", "push_time_seconds{"})
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
