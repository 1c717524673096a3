package tests_test

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// besides are kinds of metrics of which several differ in the value of the constant label "v".
// define returns functions that update the series l="x" and delete all series. The others are the
// sample to look at, and its value after updates with 1 in one process and with 4 in another.
var besides = map[string]struct {
	define func(r *gotheus.Registry, own gotheus.Labels) (update func(float64), deleteAll func() int)
	sample string
	both   float64
}{
	"counter": {func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
		v := r.NewCounterVec("m", "M.", &gotheus.CounterOptions{Labels: own, TTL: time.Hour}, "l")
		return func(n float64) { v.With("x").Add(n) }, v.DeleteAll
	}, "m", 5},
	"stripes": {func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
		v := r.NewCounterVec("m", "M.", &gotheus.CounterOptions{Labels: own, TTL: time.Hour, Stripes: 2}, "l")
		return func(n float64) { v.With("x").Add(n) }, v.DeleteAll
	}, "m", 5},
	"gauge":             {gaugeBeside(gotheus.ModeShared), "m", 5},
	"gauge/max":         {gaugeBeside(gotheus.ModeMax), "m", 4},
	"gauge/min":         {gaugeBeside(gotheus.ModeMin), "m", 1},
	"gauge/per process": {gaugeBeside(gotheus.ModePerProcess), "m", 5},
	"classic buckets":   {histogramBeside(&gotheus.HistogramOptions{Buckets: []float64{1, 2}}), "m_sum", 5},
	"native buckets":    {histogramBeside(&gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}), "m_sum", 5},
	"summary": {func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
		v := r.NewSummaryVec("m", "M.", &gotheus.SummaryOptions{Labels: own, TTL: time.Hour, Objectives: []float64{1}, MaxAge: 100 * time.Hour}, "l")
		return func(n float64) { v.With("x").Observe(n) }, v.DeleteAll
	}, "m", 4},
	"state set": {func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
		v := r.NewStateSetVec("m", "M.", []string{"on", "off"}, &gotheus.StateSetOptions{Labels: own, TTL: time.Hour}, "l")
		return func(float64) { v.With("x").Set("on") }, v.DeleteAll
	}, "m", 1},
}

func gaugeBeside(mode gotheus.Mode) func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
	return func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
		v := r.NewGaugeVec("m", "M.", &gotheus.GaugeOptions{Labels: own, TTL: time.Hour, Mode: mode}, "l")
		return func(n float64) { v.With("x").Add(n) }, v.DeleteAll
	}
}

func histogramBeside(o *gotheus.HistogramOptions) func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
	return func(r *gotheus.Registry, own gotheus.Labels) (func(float64), func() int) {
		o := *o
		o.Labels, o.TTL = own, time.Hour
		v := r.NewHistogramVec("m", "M.", &o, "l")
		return func(n float64) { v.With("x").Observe(n) }, v.DeleteAll
	}
}

// sumsBy returns the sums of the samples of a name by the value of the label "v".
func sumsBy(t *testing.T, r *gotheus.Registry, name string) map[string]float64 {
	t.Helper()
	sums := make(map[string]float64)
	for f, err := range r.Families(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for s := range f.Samples() {
			for _, l := range s.Labels {
				if s.Name == name && l.Name == "v" {
					sums[l.Value] += s.Value
				}
			}
		}
	}
	return sums
}

// Metrics that differ only in the value of a constant label do not affect each other, whatever
// their kind and backend: not when they move, nor when one of them is deleted or expires.
func TestMetricsBesideEachOther(t *testing.T) {
	t.Parallel()
	for where, url := range map[string]func(t *testing.T) (first, second string){
		"shm":    func(t *testing.T) (first, second string) { url := shmURL(t); return url, url },
		"store":  func(*testing.T) (first, second string) { return fleetURLs(1) },
		"stores": func(*testing.T) (first, second string) { return fleetURLs(3) },
	} {
		for kind, of := range besides {
			t.Run(where+"/"+kind, func(t *testing.T) {
				t.Parallel()
				now := time.Unix(1e9, 0)
				o := &gotheus.RegistryOptions{NoSelfMetrics: true, Now: func() time.Time { return now }}
				r, _ := newRegistry(t, o)
				other, _ := newRegistry(t, o)
				first, second := url(t)
				want := func(r *gotheus.Registry, a, b float64) {
					t.Helper()
					got := sumsBy(t, r, of.sample)
					if !near(got["a"], a) || !near(got["b"], b) {
						t.Errorf("got %v, want %v and %v", got, a, b)
					}
				}
				one, two := gotheus.Labels{"v": "a"}, gotheus.Labels{"v": "b"}
				updateA, deleteA := of.define(r, one)
				updateB, _ := of.define(r.Sub("", two), nil)
				updateA(1)
				updateB(1)
				want(r, 1, 1)
				bind(t, r, first)
				bind(t, other, second)
				want(r, 1, 1)
				elsewhere, _ := of.define(other.Sub("", one), nil)
				elsewhere(4)
				for _, r := range []*gotheus.Registry{r, other} {
					if err := r.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				want(r, of.both, 1)
				want(other, of.both, 1)

				sweep(r, now)
				now = now.Add(40 * time.Minute)
				updateB(1)
				sweep(r, now)
				now = now.Add(40 * time.Minute)
				sweep(r, now)
				got := sumsBy(t, r, of.sample)
				if _, ok := got["a"]; ok || got["b"] == 0 {
					t.Errorf("got %v after the time to live of the first", got)
				}
				updateA(1)
				updateB(1)
				if n := deleteA(); n != 1 {
					t.Errorf("%d series deleted, want 1", n)
				}
				got = sumsBy(t, r, of.sample)
				if _, ok := got["a"]; ok || got["b"] == 0 {
					t.Errorf("got %v after the first was deleted", got)
				}
			})
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) <= .02*math.Abs(b) }

// fleetURLs returns the URLs of two processes that share new stores.
func fleetURLs(shards int) (first, second string) {
	where := newFleetOf(shards)[len("fleet:"):]
	return "fleet:" + joinFleet(where).name, "fleet:" + joinFleet(where).name
}

// A view's constant labels are the same labels as those of a metric's options: there is one family,
// with one instrument for a series and one function for a value.
func TestConstantLabelsOfViewAndOptions(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		a, ab := gotheus.Labels{"a": "1"}, gotheus.Labels{"a": "1", "b": "2"}
		ways := []struct {
			r   *gotheus.Registry
			own gotheus.Labels
		}{{r, ab}, {r.Sub("", a), gotheus.Labels{"b": "2"}}, {r.Sub("", ab), nil}, {r.Sub("", a).Sub("", gotheus.Labels{"b": "2"}), nil}}
		c := r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: ab, MaxSeries: 5}, "l")
		r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: gotheus.Labels{"a": "1", "b": "3"}, MaxSeries: 5}, "l")
		one := func() (float64, error) { return 1, nil }
		r.NewCounterFunc("f_total", "F.", &gotheus.CounterOptions{Labels: ab}, one)
		for i, w := range ways {
			if again := w.r.NewCounterVec("c_total", "C.", &gotheus.CounterOptions{Labels: w.own}, "l"); again.With("x") != c.With("x") {
				t.Errorf("%d: another series", i)
			}
			_, err := gotheus.TryNewVec[gotheus.Counter](w.r, "c_total", "C.", &gotheus.CounterOptions{Labels: w.own, MaxSeries: 6}, "l")
			isErr(t, err, gotheus.ErrConflict, "it already has MaxSeries 5, not 6")
			_, err = gotheus.TryNewFunc[gotheus.Counter](w.r, "f_total", "F.", &gotheus.CounterOptions{Labels: w.own}, one)
			isErr(t, err, gotheus.ErrConflict, "another function already provides its value")
		}
		pageHas(t, r, `f_total{a="1",b="2"} 1`)
	})
}

// Families that differ in values of constant labels, one of which is hidden, both move along.
func TestHiddenFamiliesOfOneSchema(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
	a := r.NewCounter("x_total", "X.", &gotheus.CounterOptions{Labels: gotheus.Labels{"s": "a"}})
	a.Inc()
	r.HideFamily("x_total")
	r.NewCounter("x_total", "X.", &gotheus.CounterOptions{Labels: gotheus.Labels{"s": "b"}}).Inc()
	if err := r.Bind(t.Context(), "shm://"+filepath.Join(t.TempDir(), "a")+"?fs=any&limit=1MiB"); err != nil {
		t.Fatal(err)
	}
	a.Inc()
	r.HideFamily("x_total")
	back := r.NewCounter("x_total", "X.", &gotheus.CounterOptions{Labels: gotheus.Labels{"s": "a"}})
	a.Inc()
	back.Inc()
	if got := pageWith(t, r, &gotheus.WriteOptions{Names: []string{"x_total"}}); !strings.Contains(got, `x_total{s="a"} 4`) {
		t.Errorf("defined again, after 4 updates:\n%s", got)
	}
	r.Close(context.Background())
}

// Process collectors of views that disagree about labels are an error of one of them.
func TestViewsSampled(t *testing.T) {
	t.Parallel()
	r, log := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	c := gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("size", "S.").Put(1)
		return nil
	})
	r.Sub("", gotheus.Labels{"a": "1"}).Register(c)
	r.Sub("", gotheus.Labels{"a": "2"}).Register(c)
	pageHas(t, r, `size{a="1"} 1`, `size{a="2"} 1`)
	r.Sub("", gotheus.Labels{"b": "1"}).Register(c)
	if err := r.Bind(t.Context(), "shm://"+filepath.Join(t.TempDir(), "a")+"?fs=any&limit=1MiB"); err != nil {
		t.Fatal(err)
	}
	got := pageWith(t, r, nil)
	if strings.Count(got, "size{") != 2 || strings.Contains(got, "b=") {
		t.Errorf("%s", got)
	}
	if !strings.Contains(log.String(), `it already has the constant labels [\"a\"], not [\"b\"]`) {
		t.Errorf("the log has: %s", log)
	}
}

// A registry keeps the constant labels that it was made with, whatever happens to the map.
func TestRegistryClonesLabels(t *testing.T) {
	t.Parallel()
	labels := gotheus.Labels{"region": "eu"}
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, Labels: labels})
	labels["region"] = "us"
	r.NewCounter("c_total", "C.", nil).Inc()
	pageHas(t, r, `c_total{region="eu"} 1`)
}
