//go:build linux

package redisstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/redisstore"
)

var quiet = slog.New(slog.DiscardHandler)

func newRegistry() *gotheus.Registry {
	return gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
}

// open returns a registry bound to a URL.
func open(t testing.TB, url string) *gotheus.Registry {
	t.Helper()
	r := newRegistry()
	if err := r.Bind(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		r.Close(ctx)
	})
	return r
}

func page(t testing.TB, r *gotheus.Registry) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func contains(t testing.TB, page string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+page, "\n"+l+"\n") {
			t.Errorf("no line %s in\n%s", l, page)
		}
	}
}

func flush(t testing.TB, r *gotheus.Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// Two processes count the same metrics; every page is the total, also that of a process that
// declares nothing. The counts of a closed process stay.
func TestTotals(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	url := s.url("ns=totals&interval=1h&alive=4h") // no process publishes by itself
	a, b, exporter := open(t, url), open(t, url), open(t, url)
	for i, r := range []*gotheus.Registry{a, b} {
		c := r.NewCounterVec("orders_total", "Orders.", nil, "country")
		c.With("SE").Add(float64(1 + i))
		c.With(fmt.Sprint("only", i)).Add(0.5)
		h := r.NewHistogram("seconds", "Time.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}})
		h.Observe(0.5)
		h.Observe(1.5)
		r.NewSummary("bytes", "Size.", nil).Observe(10)
		r.NewGauge("shared", "Shared.", nil).Add(2)
		r.NewGauge("sum", "Sum.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}).Set(float64(3 + i))
		r.NewGauge("most", "Max.", &gotheus.GaugeOptions{Mode: gotheus.ModeMax}).Set(float64(3 + i))
		r.NewGauge("latest", "Latest.", &gotheus.GaugeOptions{Mode: gotheus.ModeLatest}).Set(float64(3 + i))
		r.NewGauge("each", "Each.", &gotheus.GaugeOptions{Mode: gotheus.ModePerProcess}).Set(float64(3 + i))
		flush(t, r)
	}
	want := []string{
		`orders_total{country="SE"} 3`, `orders_total{country="only0"} 0.5`, `orders_total{country="only1"} 0.5`,
		`seconds_bucket{le="1"} 2`, `seconds_bucket{le="2"} 4`, `seconds_bucket{le="+Inf"} 4`, `seconds_sum 4`, `bytes_sum 20`, `bytes_count 2`,
		"shared 4",
	}
	live := []string{"sum 7", "most 4", "latest 4", `each{process="0"} 3`, `each{process="1"} 4`}
	for _, r := range []*gotheus.Registry{a, b, exporter} {
		contains(t, page(t, r), append(live, want...)...)
	}
	// One process sets the gauge, the other adds to it without knowing of the Set.
	a.NewGauge("shared", "Shared.", nil).Set(100)
	b.NewGauge("shared", "Shared.", nil).Inc()
	flush(t, a)
	flush(t, b)
	contains(t, page(t, exporter), "shared 101")
	b.NewGauge("shared", "Shared.", nil).Set(5)
	flush(t, b)
	contains(t, page(t, exporter), "shared 5")
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*gotheus.Registry{a, exporter} {
		p := page(t, r)
		contains(t, p, want[:len(want)-1]...)
		contains(t, p, "shared 5", "sum 3", "most 3", `each{process="0"} 3`)
		if strings.Contains(p, `each{process="1"}`) {
			t.Error("a dead process's part is still there")
		}
	}
	// All keys are in this namespace.
	keys, err := s.Client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := redisstore.OpenNamespace(url)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	listed, err := ns.Keys(t.Context())
	if err != nil || len(listed) != len(keys) {
		t.Errorf("Keys lists %q, %v; there are %q", listed, err, keys)
	}
	for _, k := range keys {
		if !strings.HasPrefix(k, "gotheus:{totals}:") {
			t.Errorf("key %s", k)
		}
		if ttl, err := s.TTL(t.Context(), k).Result(); err != nil || ttl >= 0 {
			t.Errorf("key %s expires in %v, %v", k, ttl, err)
		}
	}
	if n, err := ns.Size(t.Context()); err != nil || n < 500 || n > 20000 {
		t.Errorf("size %d, %v", n, err)
	}
}

// A deletion affects all processes, and later counts begin at zero.
func TestDelete(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := open(t, s.url("interval=1h&alive=4h")), open(t, s.url("interval=1h&alive=4h"))
	ca, cb := a.NewCounterVec("c_total", "C.", nil, "x"), b.NewCounterVec("c_total", "C.", nil, "x")
	ca.With("1").Add(5)
	kept := cb.With("1")
	kept.Add(7)
	cb.With("2").Inc()
	flush(t, b)
	contains(t, page(t, a), `c_total{x="1"} 12`)
	if n := ca.DeleteMatching(gotheus.Labels{"x": "1"}); n != 1 {
		t.Errorf("%d deleted", n)
	}
	if p := page(t, a); strings.Contains(p, `x="1"`) || !strings.Contains(p, `c_total{x="2"} 1`) {
		t.Errorf("after the deletion: %s", p)
	}
	if p := page(t, b); strings.Contains(p, `x="1"`) {
		t.Errorf("in the other process: %s", p)
	}
	kept.Add(3)
	contains(t, page(t, b), `c_total{x="1"} 3`)
	ca.With("1").Inc()
	contains(t, page(t, a), `c_total{x="1"} 4`)
}

func TestTTL(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := open(t, s.url("interval=10ms")), open(t, s.url("interval=10ms"))
	s.await("have what is set again and again", func() bool {
		for _, r := range []*gotheus.Registry{a, b} {
			r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{TTL: 300 * time.Millisecond}, "x").With("1").Set(1)
			flush(t, r)
		}
		return strings.Contains(page(t, a), "g{x=\"1\"} 1\n")
	})
	s.await("forget", func() bool { return !strings.Contains(page(t, b), `x="1"`) })
}
