package tests_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// Series are deleted while goroutines update them through retained instruments and look-ups. No
// update hangs, and after the last deletion every update counts.
func TestDeleteRaces(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"heap", "shm"} {
		r, _ := newRegistry(t, nil)
		if where == "shm" {
			bind(t, r, shmURL(t))
		}
		c := r.NewCounterVec("c_total", "C.", nil, "l")
		g := r.NewGaugeVec("g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}, "l")
		h := r.NewHistogramVec("h", "H.", nil, "l")
		kept := c.With("a")
		update := func() {
			kept.Inc()
			c.With("a").Add(.5)
			g.With("a").Add(1)
			h.With("a").Observe(1)
		}
		const goroutines, updates = 4, 500
		all := func() {
			var wait sync.WaitGroup
			for range goroutines {
				wait.Add(1)
				go func() {
					defer wait.Done()
					for range updates {
						update()
					}
				}()
			}
			wait.Wait()
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			all()
		}()
		for deleting := true; deleting; {
			select {
			case <-done:
				deleting = false
			default:
				c.DeleteAll()
				g.DeleteMatching(gotheus.Labels{"l": "a"})
				h.DeleteAll()
			}
		}
		for _, m := range []interface{ DeleteAll() int }{c, g, h} {
			if m.DeleteAll(); m.DeleteAll() != 0 {
				t.Error("deleted twice")
			}
		}
		if p := page(t, r); strings.Contains(p, `l="a"`) {
			t.Errorf("%s: %s", where, p)
		}
		all()
		const n = goroutines * updates
		pageHas(t, r, fmt.Sprintf(`c_total{l="a"} %v`, 1.5*n), fmt.Sprintf(`g{l="a"} %d`, n), fmt.Sprintf(`h_count{l="a"} %d`, n), fmt.Sprintf(`h_sum{l="a"} %d`, n))
	}
}

// Deleting a series frees its heap memory, and a retained instrument moves to another backend as
// others do.
func TestDeleteForgets(t *testing.T) {
	t.Parallel()
	b := heap.New()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	c := r.NewCounterVec("c_total", "C.", nil, "l")
	kept := c.With("kept")
	for i := range 100 {
		c.With(fmt.Sprint(i)).Inc()
		c.DeleteAll()
	}
	kept.Add(3) // after it was deleted
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	kept.Add(4)
	if g := b.Walk(); len(g) != 1 || len(g[0].Series) != 1 || g[0].Series[0].Words[backend.CounterInt].Load() != 7 {
		t.Errorf("got %+v", g)
	}
	if c.With("kept") != kept {
		c.With("kept").Inc() // another instrument of the same series
		kept.Inc()
		pageHas(t, r, `c_total{l="kept"} 9`)
	}
}

func TestDeleteErrors(t *testing.T) {
	t.Parallel()
	b := heap.New()
	eu, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "eu"}})
	us, _ := newRegistry(t, &gotheus.RegistryOptions{Labels: gotheus.Labels{"region": "us"}})
	eu.BindBackend(t.Context(), b)
	us.BindBackend(t.Context(), b)
	v := eu.NewCounterVec("c_total", "C.", nil, "l")
	v.With("a\n\"")
	us.NewCounterVec("c_total", "C.", nil, "l").With("a\n\"")
	if _, err := v.TryDeleteMatching(gotheus.Labels{"m": "1"}); !errors.Is(err, gotheus.ErrLabels) || !strings.Contains(err.Error(), `"m" is not one of them`) {
		t.Errorf("got %v", err)
	}
	// Series of another registry in the same backend stay.
	if n := v.DeleteMatching(gotheus.Labels{"l": "a\n\""}); n != 1 {
		t.Errorf("deleted %d", n)
	}
	pageHas(t, us, `c_total{l="a\n\"",region="us"} 0`)
}

// Deleting one label set, those that match, and all: by values, by struct and by partials, for all
// processes.
func TestDeleteOneSomeAll(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, Labels: gotheus.Labels{"region": "eu"}})
	other, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true, Labels: gotheus.Labels{"region": "eu"}})
	bind(t, r, url)
	bind(t, other, url)
	type request struct{ Path, Method, Code string }
	o := &gotheus.CounterOptions{
		Normalize: map[string]func(string) string{"method": strings.ToUpper},
		Defaults:  gotheus.Labels{"code": "200"},
	}
	v := r.NewCounterVec("c_total", "C.", o, "path", "method", "code")
	of := gotheus.Must(gotheus.TryNewVecOf[request, gotheus.Counter](other, "c_total", "C.", o))
	part := v.Partial(gotheus.Labels{"path": "/b"})
	fill := func() {
		v.DeleteAll()
		for _, path := range []string{"/a", "/b"} {
			for _, method := range []string{"get", "put"} {
				v.With(path, method).Inc()
				v.WithLabels(gotheus.Labels{"path": path, "method": method, "code": "500"}).Inc()
			}
		}
	}
	left := func(t *testing.T, want ...string) {
		t.Helper()
		var got []string
		for line := range strings.Lines(page(t, other)) {
			if !strings.HasPrefix(line, "#") {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(line, "c_total"), "\n"))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the remaining series are %q, want %q", got, want)
		}
	}
	series := func(code, method, path string) string {
		return fmt.Sprintf(`{code=%q,method=%q,path=%q,region="eu"} 1`, code, method, path)
	}
	all := []string{
		series("200", "GET", "/a"), series("200", "GET", "/b"), series("200", "PUT", "/a"), series("200", "PUT", "/b"),
		series("500", "GET", "/a"), series("500", "GET", "/b"), series("500", "PUT", "/a"), series("500", "PUT", "/b"),
	}
	but := func(places ...int) (some []string) {
		for i, s := range all {
			if !slices.Contains(places, i) {
				some = append(some, s)
			}
		}
		return some
	}

	fill()
	left(t, all...)
	if !v.Delete("/a", "get") || v.Delete("/a", "get") || v.Delete("/none", "get") {
		t.Error("Delete reports what is not so")
	}
	left(t, but(0)...)
	if !part.Delete("Put") {
		t.Error("Delete of a partial finds nothing")
	}
	left(t, but(0, 3)...)
	if !of.Delete(request{"/b", "get", ""}) || !of.Delete(request{"/b", "get", "500"}) || of.Delete(request{"/b", "get", "404"}) {
		t.Error("Delete of a VecOf reports what is not so")
	}
	left(t, but(0, 1, 3, 5)...)
	byPath := gotheus.Partial(of, func(path string) request { return request{path, "PUT", "500"} })
	if !byPath.Delete("/b") || byPath.Delete("/b") {
		t.Error("Delete of a partial VecOf reports what is not so")
	}
	left(t, but(0, 1, 3, 5, 7)...)

	fill()
	if n := of.DeleteMatching(gotheus.Labels{"method": "get"}); n != 4 {
		t.Errorf("%d deleted", n)
	}
	left(t, but(0, 1, 4, 5)...)
	if n := part.DeleteMatching(gotheus.Labels{"code": "500"}); n != 1 {
		t.Errorf("%d deleted", n)
	}
	left(t, but(0, 1, 4, 5, 7)...)
	if n := part.DeleteMatching(nil); n != 1 { // the labels of the Partial are what to match
		t.Errorf("%d deleted", n)
	}
	left(t, but(0, 1, 3, 4, 5, 7)...)

	fill()
	if n := part.DeleteAll(); n != 4 {
		t.Errorf("%d deleted", n)
	}
	left(t, but(1, 3, 5, 7)...)
	if n := of.DeleteAll(); n != 4 {
		t.Errorf("%d deleted", n)
	}
	left(t)

	fill()
	for want, err := range map[string]error{
		`of which With takes ["path" "method"], but the values given are ["/a"]`: second(v.TryDelete("/a")),
		`which would delete all series: use DeleteAll`:                           second(v.TryDeleteMatching(nil)),
		`all series: use DeleteAll`:                                              second(of.TryDeleteMatching(gotheus.Labels{})),
		`"verb" is not one of them`:                                              second(part.TryDeleteMatching(gotheus.Labels{"verb": "GET"})),
	} {
		isErr(t, err, gotheus.ErrLabels, "c_total", want)
	}
	isErr(t, panicOf(func() { v.Delete() }), gotheus.ErrLabels, "the values given are []")
	isErr(t, panicOf(func() { of.DeleteMatching(nil) }), gotheus.ErrLabels, "use DeleteAll")
	left(t, all...)
}

// Series expire by a timer, and only those of families with a TTL.
func TestTTLTimer(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{TTL: 20 * time.Millisecond})
	r.NewCounterVec("a_total", "A.", nil, "l").With("x").Inc()
	r.NewCounterVec("b_total", "B.", &gotheus.CounterOptions{TTL: -1}, "l").With("x").Inc()
	r.NewCounter("c_total", "C.", nil).Inc() // has no labels: stays
	backendtest.Eventually(t, "the series vanishes", func() bool { return !strings.Contains(page(t, r), `a_total{l="x"}`) })
	pageHas(t, r, `b_total{l="x"} 1`, "c_total 1")
	r.NewCounterVec("a_total", "A.", nil, "l").With("x").Add(2)
	backendtest.Eventually(t, "it vanishes again", func() bool { return !strings.Contains(page(t, r), `a_total{l="x"}`) })
}

// Gauges of modes other than ModeShared belong to the process, even when it leaves a backend.
func TestGaugeModeMoves(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	g := r.NewGauge("in_flight", "I.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum})
	set := r.NewGauge("latest", "L.", &gotheus.GaugeOptions{Mode: gotheus.ModeLatest})
	g.Add(3)
	set.Set(4)
	url := shmURL(t)
	for range 2 {
		bind(t, r, url)
		g.Dec()
		pageHas(t, r, fmt.Sprintf("in_flight %v", g.Value()), "latest 4")
		r.Close(t.Context())
		g.Inc()
		bindHeap(t, r)
		pageHas(t, r, "in_flight 3", "latest 4")
		r.Close(t.Context())
	}
}

func TestGaugeModeErrors(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	for want, err := range map[string]error{
		"no mode mode(9)":                second(gotheus.TryNew[gotheus.Gauge](r, "g", "G.", &gotheus.GaugeOptions{Mode: 9})),
		`label "process" is reserved`:    second(gotheus.TryNewVec[gotheus.Gauge](r, "g", "G.", &gotheus.GaugeOptions{Mode: gotheus.ModePerProcess}, "process")),
		"it already has mode sum, not m": conflict(r),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func conflict(r *gotheus.Registry) error {
	r.NewGauge("x", "X.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum})
	_, err := gotheus.TryNew[gotheus.Gauge](r, "x", "X.", &gotheus.GaugeOptions{Mode: gotheus.ModeMin})
	return err
}

// Deleted series make room within the limit, and look-ups by struct find the series that replace
// them.
func TestDeleteMakesRoom(t *testing.T) {
	t.Parallel()
	type set struct{ L string }
	r, _ := newRegistry(t, nil)
	v, err := gotheus.TryNewVecOf[set, gotheus.Counter](r, "c_total", "C.", &gotheus.CounterOptions{MaxSeries: 10})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 400 { // more structs than the memo holds
		for i := range 10 {
			v.With(set{fmt.Sprint(round, "-", i)}).Inc()
		}
		v.With(set{"one too many"}).Inc()
		if n := v.Vec().DeleteAll(); n != 11 {
			t.Fatalf("round %d: deleted %d", round, n)
		}
	}
	kept := v.With(set{"a"})
	v.Vec().DeleteAll()
	v.With(set{"a"}) // exists again
	pageHas(t, r, `c_total{l="a"} 0`)
	kept.Inc()
	pageHas(t, r, `c_total{l="a"} 1`)
	if v.With(set{"a"}).Value() != 1 {
		t.Error("two series of the same name")
	}
}

// Advancing the window of a summary's quantiles does not count as an update: the series still
// expires.
func TestTTLWithObjectives(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	clock.Store(1e9)
	now := func() time.Time { return time.Unix(clock.Load(), 0) }
	r, _ := newRegistry(t, &gotheus.RegistryOptions{Now: now})
	bind(t, r, shmURL(t))
	v := r.NewSummaryVec("s", "S.", &gotheus.SummaryOptions{
		TTL: time.Hour, Objectives: []float64{.5}, MaxAge: 10 * time.Minute,
	}, "l")
	for i := range 60 { // also fills further blocks
		v.With("idle").Observe(float64(i))
	}
	for range 30 {
		v.With("busy").Observe(1)
		clock.Add(150)
		sweep(r, now())
	}
	if d := distributions(r, "s"); len(d) != 1 || d[`l="busy"`].Count != 30 {
		t.Errorf("got %v", d)
	}
}

// An observation of zero changes neither the sum nor, once a histogram has exponential buckets in
// further blocks, any other word of the series itself. It still counts as an update.
func TestTTLWithFurtherBlocks(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	h := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{TTL: time.Hour, Native: new(gotheus.NativeOptions)}, "l").With("a")
	for i := range 100 {
		h.Observe(float64(i))
	}
	sweep(r, time.Unix(1e9, 0))
	h.Observe(0)
	sweep(r, time.Unix(1e9+3600, 0))
	pageHas(t, r, `h_count{l="a"} 101`)
	sweep(r, time.Unix(1e9+7200, 0))
	if p := page(t, r); strings.Contains(p, `l="a"`) {
		t.Error(p)
	}
}
