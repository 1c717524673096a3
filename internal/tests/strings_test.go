package tests_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/metrictest"
)

// lender makes strings that change later, as those of programs do that use the memory of a request
// again.
type lender struct{ lent [][]byte }

func (l *lender) text(s string) string {
	b := []byte(s)
	l.lent = append(l.lent, b)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (l *lender) texts(list ...string) []string {
	for i := range list {
		list[i] = l.text(list[i])
	}
	return list
}

func (l *lender) labels(pairs ...string) gotheus.Labels {
	m := make(gotheus.Labels)
	for i := 0; i < len(pairs); i += 2 {
		m[l.text(pairs[i])] = l.text(pairs[i+1])
	}
	return m
}

// takeBack changes all strings that were lent.
func (l *lender) takeBack() {
	for _, b := range l.lent {
		for i := range b {
			b[i] = 'X'
		}
	}
	l.lent = nil
}

// The library keeps none of the strings, slices and maps that are passed to it: whatever the
// program does with their memory later, pages, look-ups, errors and log lines stay as they are.
func TestNoStringIsKept(t *testing.T) {
	t.Parallel()
	t.Run("heap", func(t *testing.T) { testNoStringIsKept(t, "") })
	t.Run("shm", func(t *testing.T) { testNoStringIsKept(t, shmURL(t)) })
}

func testNoStringIsKept(t *testing.T, url string) {
	var l lender
	log := new(testLog)
	own := l.labels("region", "eu", "b.c", "d\"e")
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{
		Prefix: l.text("app_"), Labels: own, NoSelfMetrics: true, Now: func() time.Time { return time.Unix(1e9, 0) }, SampleInterval: time.Hour,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})),
	})
	t.Cleanup(func() { r.Close(context.Background()) })
	if url != "" {
		bind(t, r, url)
	}
	var errs []error
	must := func(err error) { errs = append(errs, err) }

	labels := l.texts("route", "method", "a.b")
	normal := map[string]func(string) string{l.text("route"): func(s string) string { return s }, l.text("a.b"): gotheus.OneOf(l.texts("one", "two")...)}
	counters := r.NewCounterVec(l.text("requests_total"), l.text("Requests."), &gotheus.CounterOptions{
		Defaults: l.labels("method", "GET"), Normalize: normal, Labels: l.labels("shop", "books"),
	}, labels...)
	plain := r.NewGaugeVec(l.text("queue_bytes"), l.text("Queue."), &gotheus.GaugeOptions{Unit: l.text("bytes")}, l.text("name"))
	bounds := []float64{1, 2}
	sizes := r.NewHistogram(l.text("sizes"), l.text("Sizes."), &gotheus.HistogramOptions{Buckets: bounds})
	native := r.NewHistogramVec(l.text("native_sizes"), l.text("Sizes."), &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}, l.text("name")).With(l.text("n1"))
	objectives := []float64{.5, .9}
	summary := r.NewSummary(l.text("latencies"), l.text("Latencies."), &gotheus.SummaryOptions{Objectives: objectives})
	states := r.NewStateSetVec(l.text("state"), l.text("State."), l.texts("on", "off"), nil, l.texts("name")...)
	info := r.NewInfo(l.text("build_info"), l.text("Build."), l.labels("version", "1.2"))
	type typed struct{ Name, Other string }
	typedVec := gotheus.Must(gotheus.TryNewVecOf[typed, gotheus.Counter](r, l.text("typed_total"), l.text("Typed."), nil))
	removeFunc := r.NewGaugeFunc(l.text("temperature"), l.text("Temperature."), nil, func() (float64, error) { return 21, nil })
	defer removeFunc()
	var samples lender
	removeCollector := r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		samples.takeBack() // what it gave before was stored since
		s.Gauge(samples.text("threads"), samples.text("Threads."), samples.texts("kind")...).Put(3, samples.text("idle"))
		return nil
	}))
	defer removeCollector()

	long := strings.Repeat("long", 20)
	use := func(text func(string) string) {
		counters.With(text("/a"), text("one")).AddExemplar(1, gotheus.Labels{text("trace"): text("t1")})
		counters.With(text(long), text("three")).Inc()
		counters.WithLabels(gotheus.Labels{text("route"): text("/b"), text("a.b"): text("two"), text("method"): text("PUT")}).Inc()
		counters.Partial(gotheus.Labels{text("route"): text("/part")}).With(text("one")).Inc()
		counters.Declare(gotheus.Labels{text("route"): text("/declared"), text("a.b"): text("one")})
		plain.With(text("q1")).Set(1)
		plain.With(text(long)).Set(2)
		plain.With(text("gone")).Set(2)
		plain.Delete(text("gone"))
		states.With(text("s1")).Set(text("on"))
		typedVec.With(typed{text("n"), text(long)}).Inc()
		info.Set(gotheus.Labels{text("version"): text("1.3")})
		sizes.ObserveExemplar(1.5, gotheus.Labels{text("trace"): text("t2")})
	}
	use(l.text)
	native.Observe(3)
	summary.Observe(4)
	sizes.Observe(math.NaN()) // logged
	for _, wrong := range []string{"\xff", "b"} {
		_, err := plain.TryWith(l.text(wrong), l.text(wrong))
		must(err)
		_, err = counters.TryWithLabels(l.labels(wrong, wrong))
		must(err)
		_, err = counters.TryPartial(l.labels("route", "\xff"+wrong))
		must(err)
		_, err = gotheus.TryNewVec[gotheus.Counter](r, l.text("wrong"+wrong), l.text("Wrong."), &gotheus.CounterOptions{Defaults: l.labels(wrong, wrong)}, l.text(wrong))
		must(err)
		_, err = gotheus.TryNew[gotheus.Gauge](r, l.text("requests_total"), l.text(wrong), nil)
		must(err)
		_, err = gotheus.TryNewRegistry(&gotheus.RegistryOptions{Labels: l.labels("\xff", wrong)})
		must(err)
		must(counters.TryDeclare(l.labels("nosuch", wrong)))
		_, err = plain.TryWith(l.text("x\xff" + wrong))
		must(err)
		counters.With(l.text("/a"), l.text("one")).AddExemplar(1, l.labels("trace", "\xff"+wrong)) // logged
	}
	read := func() string {
		var page strings.Builder
		if err := r.Write(t.Context(), &page, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.OpenMetrics1, Escaping: expo.AllowUTF8}}); err != nil {
			t.Fatal(err)
		}
		return page.String()
	}
	before, said, logged := read(), fmt.Sprintf("%q", errs), log.String()
	if strings.Count(before, "\n") < 40 || !strings.Contains(before, "t1") || !strings.Contains(logged, "exemplar") {
		t.Fatalf("the page lacks something:\n%s%s", before, logged)
	}

	l.takeBack()
	clear(own)
	clear(normal)
	clear(bounds)
	clear(objectives)
	check := func(when string) {
		t.Helper()
		if after := read(); after != before {
			t.Errorf("%s: the page was\n%s\nand is\n%s", when, before, after)
		}
		if now := fmt.Sprintf("%q", errs); now != said {
			t.Errorf("%s: the errors were %s and are %s", when, said, now)
		}
		if now := log.String(); now != logged {
			t.Errorf("%s: the log was %s and is %s", when, logged, now)
		}
	}
	check("after the strings have changed")
	// These continue in further blocks, whose families are made of the definition.
	for i := range 100 {
		native.Observe(math.Pow(1.5, float64(i)))
	}
	if page := read(); !strings.Contains(page, `app_native_sizes_count{"b.c"="d\"e",name="n1",region="eu"} 101`) || strings.Contains(page, "XX") {
		t.Errorf("the page is\n%s", page)
	}
	n := seriesOf(t, r)
	if url == "" { // series move, with what was kept of them
		bind(t, r, shmURL(t))
		if after := read(); strings.Contains(after, "XX") || seriesOf(t, r) != n {
			t.Errorf("after a bind: the page was\n%s\nand is\n%s", before, after)
		}
	}

	// Look-ups and definitions find what there is.
	use(strings.Clone)
	again := r.NewCounterVec("requests_total", "Requests.", &gotheus.CounterOptions{Labels: gotheus.Labels{"shop": "books"}}, "route", "method", "a.b")
	if again.With("/a", "GET", "one") != counters.With("/a", "one") {
		t.Error("the same definition and the same labels are another counter")
	}
	if now := seriesOf(t, r); now != n {
		t.Errorf("there were %d series, and are %d", n, now)
	}
}

func seriesOf(t *testing.T, r *gotheus.Registry) (n int) {
	t.Helper()
	page, err := metrictest.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app_requests_total", "app_queue_bytes", "app_state", "app_typed_total", "app_build_info", "app_sizes"} {
		n += page.Series(name)
	}
	return n
}

// What Families yields belongs to the program: a label that it keeps does not keep the memory of a
// whole family, where the texts of a file's series are in one piece, and bounds can be changed.
func TestLabelsAreCopies(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	v := r.NewHistogramVec("sizes", "Sizes.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}}, "a")
	for i := range 10 {
		v.With(fmt.Sprint("value", i)).Observe(1)
	}
	bind(t, r, shmURL(t))
	before := page(t, r)
	type piece struct{ from, to uintptr }
	var texts []piece
	place := func(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }
	for _, g := range inside.Home(r).Current().Walk() {
		for _, s := range g.Series {
			texts = append(texts, piece{place(s.Labels), place(s.Labels) + uintptr(len(s.Labels))})
		}
	}
	own := func(l gotheus.Label) {
		for _, s := range []string{l.Name, l.Value} {
			if slices.ContainsFunc(texts, func(p piece) bool { return place(s) >= p.from && place(s) < p.to }) {
				t.Errorf("label %v is a part of the library's memory", l)
			}
		}
	}
	n := 0
	for f, err := range r.Families(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for s := range f.Samples() {
			for _, l := range s.Labels {
				own(l)
			}
		}
		for p := range f.Points() {
			for _, l := range p.Labels {
				own(l)
				n++
			}
		}
		for i := range f.Bounds {
			f.Bounds[i] = 7
		}
	}
	if n < 10 {
		t.Errorf("%d labels", n)
	}
	if after := page(t, r); after != before {
		t.Errorf("the page was\n%s\nand is\n%s", before, after)
	}
}

func BenchmarkPoints(b *testing.B) {
	r, _ := newRegistry(b, &gotheus.RegistryOptions{NoSelfMetrics: true})
	v := r.NewCounterVec("requests_total", "Requests.", nil, "method", "route", "status")
	for i := range 1000 {
		v.With("GET", fmt.Sprint("/route/", i), "200").Inc()
	}
	if err := r.Bind(b.Context(), shmURL(b)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for f := range r.Families(b.Context()) {
			for range f.Points() {
			}
		}
	}
}
