package tests_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// inEachBackend calls f with a registry in the heap, in shared memory and in a store.
func inEachBackend(t *testing.T, f func(t *testing.T, r *gotheus.Registry, log *testLog)) {
	t.Helper()
	everywhere(t, f)
	t.Run("store", func(t *testing.T) {
		r, log := newRegistry(t, nil)
		if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{new(closable)}}); err != nil {
			t.Fatal(err)
		}
		f(t, r, log)
	})
}

// A label set that is too long counts in the overflow series, in every backend alike, and nothing
// else suffers. The longest one that is allowed has its own series.
func TestLongLabelSets(t *testing.T) {
	t.Parallel()
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		type labels struct{ A, B string }
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxValueLength: -1}, "a", "b")
		of := gotheus.Must(gotheus.TryNewVecOf[labels, gotheus.Counter](r, "v_total", "V.", nil))
		room := backend.MaxText - len(`a="",b=""`)
		longest := strings.Repeat("x", room-1)
		escaped := strings.Repeat("\n", room/2)
		v.With(longest, "y").Inc()
		v.With(escaped, "").Inc()
		over := v.With(longest, "yy")
		over.Inc()
		huge := strings.Repeat("x", 1<<20)
		for _, c := range []*gotheus.Counter{
			v.With(escaped+"\n", "y"),
			v.With("", huge),
			v.WithLabels(gotheus.Labels{"a": huge, "b": ""}),
			v.Partial(gotheus.Labels{"a": huge}).With(""),
			of.With(labels{"", huge}),
		} {
			if c != over {
				t.Error("a label set that is too long has a series of its own")
			}
			c.Inc()
		}
		_, err := v.TryWith(huge)
		isErr(t, err, gotheus.ErrLabels, "v_total has labels")
		if len(err.Error()) > 1000 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
		isErr(t, v.TryDeclare(gotheus.Labels{"a": "", "b": huge}), gotheus.ErrLabels, "v_total", `label "b"`, "1048576", "65536", "shorten")
		isErr(t, of.TryDeclare(labels{"", huge}), gotheus.ErrLabels, "v_total", `label "b"`)
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		var b strings.Builder
		if err := r.WriteText(&b); err != nil {
			t.Error(err)
		}
		p := b.String()
		for _, want := range []string{
			fmt.Sprintf("v_total{a=\"%s\",b=\"y\"} 1\n", longest),
			fmt.Sprintf("v_total{a=\"%s\",b=\"\"} 1\n", strings.Repeat(`\n`, room/2)),
			`v_total{a="gotheus_overflow",b="gotheus_overflow"} 6`,
			`gotheus_overflowed_lookups_total{metric="v_total"} 6`,
		} {
			if !strings.Contains(p, want) {
				t.Errorf("the page does not contain %.200s", want)
			}
		}
		if n := strings.Count(log.String(), `metric=v_total label=`); n != 1 || !strings.Contains(log.String(), "Normalize") || len(log.String()) > 2000 {
			t.Errorf("%d lines in the log: %.3000s", n, log)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Definitions with texts that are too long are refused, with what to shorten.
func TestLongDefinitions(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 1<<20)
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		for what, define := range map[string]func() error{
			"shorten the name, which has": func() error {
				_, err := gotheus.TryNew[gotheus.Counter](r, huge, "H.", nil)
				return err
			},
			"shorten the help, which has": func() error {
				_, err := gotheus.TryNewVec[gotheus.Gauge](r, "g", huge, nil, "l")
				return err
			},
			`shorten the label "xxx`: func() error {
				_, err := gotheus.TryNewVec[gotheus.Gauge](r, "g", "G.", nil, huge)
				return err
			},
			`shorten the state "xxx`: func() error {
				_, err := gotheus.TryNewStateSet(r, "s", "S.", []string{huge}, nil)
				return err
			},
			`shorten the value of label "c", which has 1048576`: func() error {
				_, err := gotheus.TryNew[gotheus.Counter](r, "c_total", "H.", &gotheus.CounterOptions{Labels: gotheus.Labels{"c": huge}})
				return err
			},
			`the value of label "version" has 1048576`: func() error {
				_, err := gotheus.TryNewInfo(r, "an_info", "I.", gotheus.Labels{"version": huge})
				return err
			},
			`c_total: the value of label "l" has 1048576`: func() error {
				_, err := gotheus.TryNewVec[gotheus.Counter](r, "c_total", "H.", &gotheus.CounterOptions{Defaults: gotheus.Labels{"l": huge}}, "l")
				return err
			},
			"20000 buckets": func() error {
				_, err := gotheus.TryNew[gotheus.Histogram](r, "h", "H.", &gotheus.HistogramOptions{Buckets: gotheus.LinearBuckets(1, 1, 20000)})
				return err
			},
			"the registry's prefix": func() error {
				_, err := gotheus.TryNewRegistry(&gotheus.RegistryOptions{Prefix: huge})
				return err
			},
			`or the value of label "zone"`: func() error {
				_, err := gotheus.TryNewRegistry(&gotheus.RegistryOptions{Labels: gotheus.Labels{"zone": huge}})
				return err
			},
			"the registry's prefix and": func() error {
				_, err := r.TrySub("", gotheus.Labels{"zone": huge})
				return err
			},
		} {
			err := define()
			isErr(t, err, gotheus.ErrInvalid, what)
			if err != nil && len(err.Error()) > 50_000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		}
		info := r.NewInfo("an_info", "I.", gotheus.Labels{"version": "1"})
		isErr(t, info.TrySet(gotheus.Labels{"version": huge}), gotheus.ErrLabels, "an_info", `label "version"`)
		r.NewHistogram("most", "M.", &gotheus.HistogramOptions{Buckets: gotheus.LinearBuckets(1, 1, backend.MaxBuckets)}).Observe(7)
		pageHas(t, r, `an_info{version="1"} 1`, `most_bucket{le="10000"} 1`)
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What collectors give is limited in the same way, whether it is stored or not. A series whose
// label text is too long is left out.
func TestLongValuesOfCollectors(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 1<<20)
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, log *testLog) {
		collect := func(prefix string) func(context.Context, *gotheus.Sink) error {
			return func(_ context.Context, s *gotheus.Sink) error {
				s.Gauge(prefix+"_value", "V.", "l").Put(1, huge)
				s.Gauge(prefix+"_help", huge).Put(1)
				s.Gauge(prefix+"_good", "G.").Put(1)
				return nil
			}
		}
		r.Register(gotheus.CollectorFunc(collect("c")))
		r.Register(gotheus.ProcessCollectorFunc(collect("p")))
		p := page(t, r)
		if !strings.Contains(p, "c_good 1") || !strings.Contains(p, "p_good") || strings.Contains(p, "_value{") || strings.Contains(p, "_help") {
			t.Errorf("the page is\n%.3000s", p)
		}
		for _, want := range []string{"c_value: the labels have", "p_value: the labels have", "shorten the value of label", "c_help: name, help", "shorten the help"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no %q in the log: %.3000s", want, log)
			}
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The limit of series bounds memory, too: long label sets count several times.
func TestMaxSeriesBoundsBytes(t *testing.T) { // not parallel: it measures the heap
	inEachBackend(t, func(t *testing.T, r *gotheus.Registry, _ *testLog) {
		v := r.NewCounterVec("v_total", "V.", &gotheus.CounterOptions{MaxSeries: 500, MaxValueLength: -1}, "l")
		v.With("short")
		before := heapInUse()
		long := strings.Repeat("x", 60<<10)
		for i := range 3000 {
			v.With(fmt.Sprint(long, i)).Inc()
		}
		if err := r.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		// Without a bound, 500 of these label sets take 30 MB. Ten take 600 kB wherever
		// they are held: in the family, the syncer, what it publishes, and the store.
		if grown := int64(heapInUse()-before) - int64(len(long)); grown > 8<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
		runtime.KeepAlive(r)
		if n := count(page(t, r), "v_total"); n != 10 {
			t.Errorf("%d series", n)
		}
	})
}

// heapInUse returns the bytes of live objects.
func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
