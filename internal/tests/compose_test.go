package tests_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

func samplesOf(t *testing.T, r *gotheus.Registry) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// A view adds a prefix and labels, and otherwise behaves as the registry does.
func TestSub(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Prefix: "shop_", Labels: gotheus.Labels{"env": "test"}})
	sub := r.Sub("http_", gotheus.Labels{"server": "a"})
	deep := sub.Sub("cache_", nil)
	r.NewCounter("orders_total", "O.", nil).Inc()
	sub.NewCounterVec("requests_total", "R.", nil, "code").With("200").Inc()
	sub.NewGauge("speed", "S.", &gotheus.GaugeOptions{Labels: gotheus.Labels{"unit": "m"}}).Set(2)
	deep.NewCounter("hits_total", "H.", nil).Add(3)
	deep.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("size", "S.").Put(7)
		return nil
	}))
	remove := sub.NewGaugeFunc("load", "L.", nil, func() (float64, error) { return 1.5, nil })
	want := `shop_http_cache_hits_total{env="test",server="a"} 3
shop_http_cache_size{env="test",server="a"} 7
shop_http_load{env="test",server="a"} 1.5
shop_http_requests_total{code="200",env="test",server="a"} 1
shop_http_speed{env="test",server="a",unit="m"} 2
shop_orders_total{env="test"} 1
`
	for name, r := range map[string]*gotheus.Registry{"registry": r, "view": sub, "view of a view": deep} {
		got := strings.ReplaceAll(samplesOf(t, r), `shop_gotheus_collector_errors_total{env="test"} 0`+"\n", "")
		if got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
		}
	}
	remove()
	if !sub.HideFamily("speed") || sub.HideFamily("orders_total") {
		t.Error("names of HideFamily are not those of the view")
	}
	if got := samplesOf(t, r); strings.Contains(got, "speed") || strings.Contains(got, "load") {
		t.Errorf("after hiding and removing:\n%s", got)
	}
	if _, err := gotheus.TryNew(r, "http_requests_total", "Other.", (*gotheus.CounterOptions)(nil)); !errors.Is(err, gotheus.ErrConflict) {
		t.Errorf("the same full name in the parent registry: %v", err)
	}
	place := "shm://" + filepath.Join(t.TempDir(), "sub") + "?fs=any&limit=1MiB"
	if err := deep.Bind(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(t.Context(), "heap:"); !errors.Is(err, gotheus.ErrBound) {
		t.Errorf("a view is bound without its registry: %v", err)
	}
	if got := samplesOf(t, r); !strings.Contains(got, `shop_http_cache_hits_total{env="test",server="a"} 3`) {
		t.Errorf("bound by a view:\n%s", got)
	}
	if err := sub.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		prefix string
		labels gotheus.Labels
		want   string
	}{
		{"\n", nil, "prefix"},
		{"", gotheus.Labels{"env": "x"}, "env"},
		{"", gotheus.Labels{"le": "x"}, "le"},
		{"", gotheus.Labels{"x": "\xff"}, "UTF-8"},
	} {
		if _, err := r.TrySub(c.prefix, c.labels); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Sub(%q, %v): %v", c.prefix, c.labels, err)
		}
	}
}

// Included registries: their families and collectors are on the page exactly once, even in cycles.
func TestInclude(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	app := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: logger})
	library := gotheus.NewRegistry(&gotheus.RegistryOptions{Prefix: "lib_", Logger: logger})
	deep := gotheus.NewRegistry(&gotheus.RegistryOptions{Prefix: "deep_", Logger: logger})
	app.NewCounter("orders_total", "O.", nil).Inc()
	library.NewCounter("calls_total", "C.", nil).Add(2)
	library.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("size", "S.").Put(7)
		return nil
	}))
	deep.NewGauge("level", "L.", nil).Set(3)
	remove := app.Include(library)
	library.Include(deep)
	deep.Include(app) // a cycle
	again := app.Include(library)
	want := "deep_level 3\nlib_calls_total 2\nlib_gotheus_collector_errors_total 0\nlib_size 7\norders_total 1\n"
	for range 2 {
		if got := samplesOf(t, app); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	again()
	again()
	if got := samplesOf(t, app); got != want {
		t.Errorf("one of two includes was removed: got\n%s", got)
	}
	app.NewGauge("lib_calls", "Clashes.", nil).Set(1)
	if got := samplesOf(t, app); !strings.Contains(got, "lib_calls 1\n") || strings.Contains(got, "lib_calls_total") {
		t.Errorf("a clash:\n%s", got)
	}
	if !strings.Contains(log.String(), "lib_calls_total") {
		t.Errorf("a clash is not logged: %s", &log)
	}
	remove()
	if got := samplesOf(t, app); got != "lib_calls 1\norders_total 1\n" {
		t.Errorf("removed:\n%s", got)
	}
	for name, other := range map[string]*gotheus.Registry{"nil": nil, "itself": app, "a view": app.Sub("x_", nil)} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, gotheus.ErrInvalid) {
					t.Errorf("Include of %s: %v", name, err)
				}
			}()
			app.Include(other)
		}()
	}
}

// Registries with separate backends, and two that share one.
func TestIncludeOfBackends(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log bytes.Buffer
	open := func(name string) *gotheus.Registry {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err := r.Bind(t.Context(), "shm://"+filepath.Join(dir, name)+"?fs=any&limit=1MiB"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(context.Background()) })
		return r
	}
	a, same, other := open("a"), open("a"), open("b")
	a.NewCounter("a_total", "A.", nil).Inc()
	same.NewCounter("same_total", "S.", nil).Inc()
	other.NewCounter("other_total", "O.", nil).Inc()
	other.NewGaugeFunc("own", "O.", nil, func() (float64, error) { return 4, nil })
	a.Include(same)
	a.Include(other)
	other.Include(a)
	want := "a_total 1\nother_total 1\nown{process=\"0\"} 4\nsame_total 1\n"
	var wait sync.WaitGroup
	for range 4 { // in both directions concurrently
		for _, r := range []*gotheus.Registry{a, other} {
			wait.Go(func() {
				if got := samplesOf(t, r); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
	wait.Wait()
	if log.Len() > 0 {
		t.Errorf("logged: %s", &log)
	}
}

// pageWith returns the samples of a page.
func pageWith(t *testing.T, r *gotheus.Registry, o *gotheus.WriteOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(t.Context(), &b, o); err != nil {
		t.Errorf("write: %v", err)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// Pages that are written through a view count for the registry's own metrics.
func TestScrapesOfViewCount(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	if err := r.Bind(t.Context(), "heap:"); err != nil {
		t.Fatal(err)
	}
	v := r.Sub("x_", nil)
	for range 3 {
		pageWith(t, v, nil)
	}
	if got := pageWith(t, r, nil); !strings.Contains(got, "gotheus_scrape_duration_seconds_count 3\n") {
		t.Errorf("%s", got)
	}
}

// Views, and metrics, whose constant labels have other values are together on a page, each counting
// by itself. What one deletes is not the others'.
func TestConstantLabelsSideBySide(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]string{"heap": "heap:", "shm": shmURL(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet, NoSelfMetrics: true})
			bind(t, r, place)
			type pool struct {
				queries *gotheus.CounterVec
				open    *gotheus.Gauge
				wait    *gotheus.Histogram
			}
			make := func(r *gotheus.Registry, labels gotheus.Labels) pool {
				buckets := []float64{1}
				return pool{
					r.NewCounterVec("queries_total", "Q.", &gotheus.CounterOptions{Labels: labels, TTL: time.Hour}, "kind"),
					r.NewGauge("open", "O.", &gotheus.GaugeOptions{Labels: labels, Mode: gotheus.ModeSum}),
					r.NewHistogram("wait", "W.", &gotheus.HistogramOptions{Labels: labels, Buckets: buckets}),
				}
			}
			var pools []pool
			for i, p := range []string{"a", "b"} {
				viewed := make(r.Sub("viewed_", gotheus.Labels{"pool": p}), nil)
				plain := make(r, gotheus.Labels{"pool": p})
				if again := make(r, gotheus.Labels{"pool": p}); again.open != plain.open || again.queries.With("x") != plain.queries.With("x") {
					t.Error("asking again gives another metric")
				}
				stop := r.NewGaugeFunc("function", "F.", &gotheus.GaugeOptions{Labels: gotheus.Labels{"pool": p}}, func() (float64, error) { return float64(i), nil })
				t.Cleanup(stop)
				pools = append(pools, viewed, plain)
			}
			for i, p := range pools {
				p.queries.With("x").Add(float64(i + 1))
				p.open.Set(float64(i))
				p.wait.Observe(float64(i))
			}
			if _, err := gotheus.TryNew(r, "open", "O.", (*gotheus.GaugeOptions)(nil)); !errors.Is(err, gotheus.ErrConflict) || !strings.Contains(err.Error(), "several sets of constant labels") {
				t.Errorf("got error %v", err)
			}
			for _, wrong := range []*gotheus.Registry{r.Sub("viewed_", gotheus.Labels{"pond": "a"}), r.Sub("viewed_", nil)} {
				_, err := gotheus.TryNew(wrong, "open", "O.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum})
				isErr(t, err, gotheus.ErrConflict, `it already has the constant labels ["pool"], not `)
			}
			if n := pools[0].queries.DeleteAll(); n != 1 {
				t.Errorf("%d series deleted, want 1", n)
			}
			pools[1].queries.With("x").Inc()
			got := pageWith(t, r, nil)
			for _, line := range []string{
				`open{pool="a"} 1`, `open{pool="b"} 3`, `viewed_open{pool="a"} 0`, `viewed_open{pool="b"} 2`,
				`queries_total{kind="x",pool="a"} 3`, `queries_total{kind="x",pool="b"} 4`, `viewed_queries_total{kind="x",pool="b"} 3`,
				`wait_sum{pool="a"} 1`, `wait_sum{pool="b"} 3`,
			} {
				if !strings.Contains(got, "\n"+line+"\n") {
					t.Errorf("%s is missing", line)
				}
			}
			if strings.Contains(got, `viewed_queries_total{kind="x",pool="a"}`) {
				t.Errorf("%s", got)
			}
			if !r.HideFamily("open") || strings.Contains(pageWith(t, r, nil), "\nopen{") {
				t.Error("a family is not hidden with all its constant labels")
			}
		})
	}
}

// Two heaps have the same URL, and nothing in common.
func TestIncludeHeap(t *testing.T) {
	t.Parallel()
	a := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	b := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	for _, r := range []*gotheus.Registry{a, b} {
		if err := r.Bind(t.Context(), "heap:"); err != nil {
			t.Fatal(err)
		}
	}
	a.NewCounter("a_total", "A.", nil).Inc()
	b.NewCounter("b_total", "B.", nil).Inc()
	a.Include(b)
	if got := pageWith(t, a, nil); got != "a_total 1\nb_total 1\n" {
		t.Errorf("%s", got)
	}
}

// Of two registries in one place, the one that leads is shown.
func TestIncludeLeader(t *testing.T) {
	t.Parallel()
	place := "shm://" + filepath.Join(t.TempDir(), "a") + "?fs=any&limit=1MiB"
	open := func() *gotheus.Registry {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: quiet})
		if err := r.Bind(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(context.Background()) })
		return r
	}
	a, b := open(), open()
	a.NewCounter("a_total", "A.", nil).Inc()
	b.NewCounter("b_total", "B.", nil).Inc()
	a.Include(b)
	// B leads, e.g. by one earlier scrape of its own.
	pageWith(t, b, &gotheus.WriteOptions{Scope: gotheus.ScopeLeader})
	if got := pageWith(t, a, &gotheus.WriteOptions{Scope: gotheus.ScopeLeader}); !strings.Contains(got, "a_total 1") {
		t.Errorf("got %q", got)
	}
}

// The library's own metrics of a registry that is included do not clash.
func TestIncludeSelfMetrics(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log bytes.Buffer
	open := func(name string) *gotheus.Registry {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err := r.Bind(t.Context(), "shm://"+filepath.Join(dir, name)+"?fs=any&limit=1MiB"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(context.Background()) })
		return r
	}
	a, b := open("a"), open("b")
	a.Include(b)
	pageWith(t, a, &gotheus.WriteOptions{Strict: true})
	got := pageWith(t, a, &gotheus.WriteOptions{Names: []string{"gotheus_hidden_series"}})
	if !strings.Contains(got, "gotheus_hidden_series 0\n") || log.Len() > 0 {
		t.Errorf("%s\nthe log has:\n%s", got, log.String())
	}
}

// full is a heap that has no room, and can be read.
type full struct{ *faulty }

func (full) Sync(context.Context) error { return nil }

// The page has what a registry knows about its own backend, even if there is no room for it there.
func TestIncludeSelfMetricsWithoutRoom(t *testing.T) {
	t.Parallel()
	a, log := newRegistry(t, nil)
	b, _ := newRegistry(t, nil)
	place := full{&faulty{Backend: heap.New(), err: backend.ErrFull}}
	if err := a.BindBackend(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	bind(t, b, shmURL(t))
	a.Include(b)
	got := pageWith(t, a, &gotheus.WriteOptions{Names: []string{"gotheus_postponed_series", "gotheus_backend_up"}})
	place.set(nil)
	if !strings.Contains(got, "gotheus_backend_up 1\n") || strings.Contains(got, "gotheus_postponed_series{") || strings.Contains(log.String(), "left out") {
		t.Errorf("%s\nthe log has:\n%s", got, log)
	}
}

// What a registry has, from wherever, wins over what it includes.
func TestIncludeCollectorWins(t *testing.T) {
	t.Parallel()
	a := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	b := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	a.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("size", "S.").Put(1)
		return nil
	}))
	b.NewGauge("size", "S.", nil).Set(2)
	a.Include(b)
	if got := pageWith(t, a, nil); !strings.Contains(got, "size 1\n") {
		t.Errorf("%s", got)
	}
}
