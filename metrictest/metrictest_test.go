package metrictest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/collectors"
	"github.com/gotheus/gotheus/metrichttp"
	"github.com/gotheus/gotheus/metrictest"
)

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	log   strings.Builder
	fatal bool
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { fmt.Fprintf(&r.log, format+"\n", args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	r.fatal = true
}

func registry() *gotheus.Registry {
	r := new(gotheus.Registry)
	r.NewCounterVec("orders_total", "Orders.", nil, "country", "paid_by").With("S\"E", "card").Add(3)
	r.NewGauge("depth", "Depth\nof \\ the queue.", nil).Set(-1.5)
	h := r.NewHistogramVec("latency_seconds", "Latency.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}}, "route")
	h.With("/").Observe(1.5)
	h.With("/x").Observe(3)
	s := r.NewSummary("size_bytes", "Size.", nil)
	s.Observe(5)
	return r
}

const page = `# HELP depth Depth\nof \\ the queue.
# TYPE depth gauge
depth -1.5
# HELP latency_seconds Latency.
# TYPE latency_seconds histogram
latency_seconds_bucket{route="/",le="1"} 0
latency_seconds_bucket{route="/",le="2"} 1
latency_seconds_bucket{route="/",le="+Inf"} 1
latency_seconds_sum{route="/"} 1.5
latency_seconds_count{route="/"} 1
latency_seconds_bucket{route="/x",le="1"} 0
latency_seconds_bucket{route="/x",le="2"} 0
latency_seconds_bucket{route="/x",le="+Inf"} 1
latency_seconds_sum{route="/x"} 3
latency_seconds_count{route="/x"} 1
# HELP orders_total Orders.
# TYPE orders_total counter
orders_total{country="S\"E",paid_by="card"} 3
# HELP size_bytes Size.
# TYPE size_bytes summary
size_bytes_sum 5
size_bytes_count 1
`

func TestSources(t *testing.T) {
	t.Parallel()
	r := registry()
	h := &metrichttp.Handler{Registry: r}
	server := httptest.NewServer(h)
	defer server.Close()
	for name, read := range map[string]func() (*metrictest.Page, error){
		"registry": func() (*metrictest.Page, error) { return metrictest.Read(r) },
		"handler":  func() (*metrictest.Page, error) { return metrictest.ReadHandler(h) },
		"URL":      func() (*metrictest.Page, error) { return metrictest.ReadURL(t.Context(), nil, server.URL+"/metrics") },
		"text":     func() (*metrictest.Page, error) { return metrictest.Parse(page) },
	} {
		p, err := read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d, err := p.Diff(page); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
		if v, ok := p.Value(`orders_total{paid_by="card", country="S\"E"}`); v != 3 || !ok {
			t.Errorf("%s: %v, %t", name, v, ok)
		}
		if n := p.Series(); n != 5 {
			t.Errorf("%s: %d series", name, n)
		}
		if n := p.Series("latency_seconds", "depth"); n != 3 {
			t.Errorf("%s: %d series of two families", name, n)
		}
	}
	fail := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) })
	if _, err := metrictest.ReadHandler(fail); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "not now") {
		t.Errorf("got %v", err)
	}
	html := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })
	if _, err := metrictest.ReadHandler(html); err == nil || !strings.Contains(err.Error(), "text/html") {
		t.Errorf("got %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := metrictest.ReadURL(canceled, nil, server.URL); err == nil {
		t.Error("no error")
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	p, err := metrictest.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text, diff string
		names            []string
	}{
		{"order, indentation, no comments", `
			orders_total{paid_by="card",country="S\"E"} 3.0

			depth -15e-1`, "", []string{"orders_total", "depth"}},
		{"a value", `depth 2`, "-depth 2\n+depth -1.5", []string{"depth"}},
		{"nothing expected", ``, "+depth -1.5", []string{"depth"}},
		{"something missing", `depth -1.5
			other{a="b"} 1`, `-other{a="b"} 1`, []string{"depth", "other"}},
		{"help and type", `
			# HELP depth Other.
			# TYPE depth counter
			depth -1.5`, "-# HELP depth Other.\n+# HELP depth Depth\\nof \\\\ the queue.\n-# TYPE depth counter\n+# TYPE depth gauge", []string{"depth"}},
		{"a label", `orders_total{country="NO",paid_by="card"} 3`,
			`-orders_total{country="NO",paid_by="card"} 3` + "\n" + `+orders_total{country="S\"E",paid_by="card"} 3`, []string{"orders_total"}},
		{"a histogram without its type", `
			latency_seconds_count{route="/"} 1
			latency_seconds_sum{route="/"} 1.5
			latency_seconds_bucket{route="/",le="1"} 0
			latency_seconds_bucket{route="/",le="2"} 1
			latency_seconds_bucket{route="/",le="+Inf"} 1
			latency_seconds_bucket{route="/x",le="1"} 0
			latency_seconds_sum{route="/x"} 3
			latency_seconds_bucket{route="/x",le="2"} 0
			latency_seconds_bucket{route="/x",le="+Inf"} 1
			latency_seconds_count{route="/x"} 2`,
			`-latency_seconds_count{route="/x"} 2` + "\n" + `+latency_seconds_count{route="/x"} 1`, []string{"latency_seconds"}},
		{"a family without series", `
			# TYPE none counter
			depth -1.5`, "-# TYPE none counter", []string{"depth", "none"}},
	} {
		got, err := p.Diff(tt.text, tt.names...)
		if err != nil || got != tt.diff {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.name, err, got, tt.diff)
		}
	}
	if d, err := p.Diff(strings.Replace(page, "depth -1.5\n", "", 1)); err != nil || d != "+depth -1.5" {
		t.Errorf("%v\n%s", err, d)
	}
	if _, err := p.Diff("depth x"); err == nil {
		t.Error("no error")
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a 1":                                "with a newline",
		"a\n":                                "a value",
		"a x\n":                              "the value",
		"a 1 x\n":                            "the time",
		"a 1 2 3\n":                          "a value",
		"1a 1\n":                             "is not the name",
		"a{b=\"c} 1\n":                       "not terminated",
		"a{b=\"\\x\"} 1\n":                   "escape",
		"a{b} 1\n":                           "cannot read",
		"a{b=\"1\",b=\"2\"} 1\n":             "twice",
		"a{b=\"1\" c=\"2\"} 1\n":             "cannot read",
		"a 1\na 2\n":                         "twice",
		"a 1\nb 2\na{c=\"d\"} 3\n":           "separate",
		"# TYPE a gauge\n# TYPE a gauge\n":   "second TYPE",
		"# HELP a A.\n# HELP a A.\n":         "second HELP",
		"# TYPE a thing\n":                   "unknown type",
		"# TYPE a-b gauge\n":                 "is not the name",
		"a 1\n# TYPE a gauge\n":              "after the family's samples",
		"# TYPE a gauge\nb 1\n# HELP a A.\n": "occurs twice",
	} {
		if _, err := metrictest.Parse(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "metrictest: ") {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if p, err := metrictest.Parse("# a comment\n\n#\na{} 1 1000\nb{c=\"}\\n\\\\\",} NaN\n"); err != nil || p.Series() != 2 {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(page)
	f.Add("a{b=\"\\\"}\"} 1 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := metrictest.Parse(text)
		if err != nil {
			return
		}
		p.Lint()
		if d, err := p.Diff(text); err == nil && strings.Contains(d, "+") && !strings.Contains(text, "gotheus_") && !strings.Contains(text, " \n") {
			for line := range strings.Lines(d) {
				if strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "+#") {
					t.Errorf("a page differs from itself:\n%s\n%s", text, d)
				}
			}
		}
	})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	r := registry()
	for _, tt := range []struct {
		name  string
		run   func(t metrictest.TB)
		want  []string
		fatal bool
	}{
		{"right", func(t metrictest.TB) { metrictest.Want(t, r, "depth", -1.5) }, nil, false},
		{"wrong", func(t metrictest.TB) { metrictest.Want(t, r, "depth", 2) }, []string{"depth is -1.5, want 2"}, false},
		{"absent", func(t metrictest.TB) { metrictest.Want(t, r, `orders_total{country="NO"}`, 2) },
			[]string{"is not on the page", `orders_total{country="S\"E",paid_by="card"} 3`}, false},
		{"unknown", func(t metrictest.TB) { metrictest.Want(t, r, "nosuch", 2) }, []string{"none with that name"}, false},
		{"nonsense", func(t metrictest.TB) { metrictest.Want(t, r, "depth 7", 2) }, []string{"is not a sample"}, true},
		{"same", func(t metrictest.TB) { metrictest.Compare(t, r, page) }, nil, false},
		{"different", func(t metrictest.TB) { metrictest.Compare(t, r, "depth 3", "depth") }, []string{"-depth 3\n+depth -1.5"}, false},
		{"unreadable", func(t metrictest.TB) { metrictest.Compare(t, r, "depth x", "depth") }, []string{"line 1"}, true},
		{"clean", func(t metrictest.TB) { metrictest.Lint(t, r) }, nil, false},
	} {
		rec := new(recorder)
		tt.run(rec)
		if rec.fatal != tt.fatal || (rec.log.Len() > 0) != (tt.want != nil) {
			t.Errorf("%s: fatal %t: %s", tt.name, rec.fatal, &rec.log)
		}
		for _, want := range tt.want {
			if !strings.Contains(rec.log.String(), want) {
				t.Errorf("%s: %s\nlacks %s", tt.name, &rec.log, want)
			}
		}
	}
}

func TestDelta(t *testing.T) {
	t.Parallel()
	r := new(gotheus.Registry)
	c, g, h := r.NewCounter("c_total", "C.", nil), r.NewGauge("g", "G.", nil), r.NewHistogram("h", "H.", nil)
	c.Add(5)
	if d := metrictest.Delta(c, func() { c.Add(2) }); d != 2 {
		t.Errorf("got %v", d)
	}
	if d := metrictest.Delta(g, func() { g.Dec() }); d != -1 {
		t.Errorf("got %v", d)
	}
	h.Observe(1)
	if d := metrictest.Delta(metrictest.Count(h), func() { h.Observe(3); h.Observe(4) }); d != 2 {
		t.Errorf("got %v", d)
	}
	if d := metrictest.Delta(metrictest.Sum(h), func() { h.Observe(3) }); d != 3 {
		t.Errorf("got %v", d)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	p, err := metrictest.Parse(`
# HELP good_seconds_total Good.
# TYPE good_seconds_total counter
good_seconds_total{route="/"} 1
# TYPE no_help gauge
no_help 1
# HELP no_type N.
no_type 1
# HELP errors E.
# TYPE errors counter
errors 1
# HELP depth_total D.
# TYPE depth_total gauge
depth_total 1
# HELP size_count S.
# TYPE size_count gauge
size_count 1
# HELP wait_milliseconds W.
# TYPE wait_milliseconds histogram
wait_milliseconds_bucket{le="+Inf"} 1
wait_milliseconds_sum 1
wait_milliseconds_count 1
# HELP size_gauge S.
# TYPE size_gauge gauge
size_gauge 1
# HELP queueDepth Q.
# TYPE queueDepth gauge
queueDepth{shardID="1"} 1
# HELP job:rate J.
# TYPE job:rate gauge
job:rate{job="1",le="2"} 1
# HELP requests_by_code_total R.
# TYPE requests_by_code_total counter
requests_by_code_total{code="1"} 1
`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, problem := range p.Lint() {
		got = append(got, problem.String())
	}
	want := []string{
		"no_help: add a help text that says what it counts or measures",
		"no_type: give it a type",
		"errors: the name of a counter should end in _total",
		"depth_total: only the name of a counter should end in _total",
		"size_count: the name should not end in _count, which is for samples of histograms and summaries",
		"wait_milliseconds: use the base unit seconds instead of milliseconds",
		`size_gauge: the name should not say "gauge"`,
		"queueDepth: write the name in snake_case, not in camelCase",
		"queueDepth: write the label shardID in snake_case",
		"job:rate: the name should not contain a colon, which is for recording rules",
		"job:rate: the label job is set by the scraper",
		"job:rate: the label le is for histograms and summaries",
		"requests_by_code_total: the name should not repeat the label code",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// The library's own families follow the conventions.
func TestLintOwn(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	if err := r.Bind(t.Context(), "heap:"); err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	r.NewCounter("c_total", "C.", nil).Add(-1)
	h := (&metrichttp.Middleware{Registry: r}).Wrap(http.NotFoundHandler())
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	collectors.Register(r)
	// names that dashboards know
	metrictest.Lint(t, r, "go_memstats_alloc_bytes_total", "go_gc_gogc_percent")
}

// clock is advanced by a test.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func TestClock(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1000, 0)}
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Now: c.Now})
	h := r.NewHistogram("h_seconds", "H.", &gotheus.HistogramOptions{Buckets: []float64{1}})
	func() {
		defer h.ObserveSince(r.Now())
		c.now = c.now.Add(1500 * time.Millisecond)
	}()
	metrictest.Compare(t, r, `
		h_seconds_bucket{le="1"} 0
		h_seconds_bucket{le="+Inf"} 1
		h_seconds_sum 1.5
		h_seconds_count 1`)
}

// Nil is the default registry; there is no default handler.
func TestNil(t *testing.T) {
	gotheus.NewCounter("metrictest_nil_total", "Of the default registry.", nil).Add(2)
	metrictest.Want(t, nil, "metrictest_nil_total", 2)
	if _, err := metrictest.ReadHandler(nil); err == nil || !strings.Contains(err.Error(), "the handler is nil") {
		t.Errorf("got %v", err)
	}
}

// Errors about a URL have nothing of it but scheme and host.
func TestReadURLSecrets(t *testing.T) {
	t.Parallel()
	for _, rawURL := range []string{"http://user:zq9secret@127.0.0.1:1/zq9secret?token=zq9secret", "http://user:zq9secret@h:x", "nosuch://user:zq9secret@h"} {
		_, err := metrictest.ReadURL(t.Context(), nil, rawURL)
		if err == nil || strings.Contains(err.Error(), "q9secret") {
			t.Errorf("%s: %v", rawURL, err)
		}
	}
}
