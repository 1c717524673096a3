package tests_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// A striped counter counts like any other, across binding, deletion and processes.
func TestStripes(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	const processes, each = 5, 1000
	var wait sync.WaitGroup
	var first *gotheus.Registry
	for n := range processes {
		r, _ := newRegistry(t, nil)
		v := r.NewCounterVec("hot_total", "Hot.", &gotheus.CounterOptions{Stripes: 4}, "n")
		c := v.With("x")
		c.Inc() // in the heap
		wait.Go(func() {
			for range each {
				c.Inc()
			}
			c.Add(.5)
			c.Add(2)
		})
		bind(t, r, url)
		if n == 0 {
			first = r
		}
	}
	wait.Wait()
	want := fmt.Sprintf(`hot_total{n="x"} %v`, processes*(1+each+2.5))
	pageHas(t, first, want)
	v := first.NewCounterVec("hot_total", "Hot.", &gotheus.CounterOptions{Stripes: 4}, "n")
	if n := v.DeleteAll(); n != 1 {
		t.Errorf("%d deleted", n)
	}
	if strings.Contains(page(t, first), "{") {
		t.Error("the series still exists")
	}
	v.With("x").Inc()
	pageHas(t, first, `hot_total{n="x"} 1`)
	first.Close(t.Context())
	v.With("x").Inc()
	if got := v.With("x").Value(); got != 1 {
		t.Errorf("after Close: %v", got)
	}
	native := &gotheus.HistogramOptions{Stripes: 4, Native: new(gotheus.NativeOptions)}
	if _, err := gotheus.TryNew[gotheus.Histogram](first, "h", "H.", native); !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), "without exponential buckets") {
		t.Errorf("exponential buckets with stripes: %v", err)
	}
	if _, err := gotheus.TryNew[gotheus.Counter](first, "c_total", "C.", &gotheus.CounterOptions{Stripes: 1}); !errors.Is(err, gotheus.ErrInvalid) {
		t.Errorf("one stripe: %v", err)
	}
}

// Through all operations, striped counters and histograms have the same values as ones without
// stripes.
func TestStripesLikeTwins(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, _ := newRegistry(t, nil)
		url := shmURL(t)
		stripes := 2 + random.IntN(5)
		vecs := map[int][2]any{}
		for _, n := range []int{0, stripes} {
			name := map[bool]string{true: "striped", false: "plain"}[n != 0]
			vecs[n] = [2]any{
				r.NewCounterVec(name+"_events_total", "Counter.", &gotheus.CounterOptions{Stripes: n}, "l"),
				r.NewHistogramVec(name, "Histogram.", &gotheus.HistogramOptions{Stripes: n, Buckets: []float64{-1, 1, 2, 50}}, "l"),
			}
		}
		each := func(f func(c *gotheus.Vec[gotheus.Counter], h *gotheus.Vec[gotheus.Histogram])) {
			for _, v := range vecs {
				f(v[0].(*gotheus.Vec[gotheus.Counter]), v[1].(*gotheus.Vec[gotheus.Histogram]))
			}
		}
		bound := false
		for range 100 {
			label := fmt.Sprint(random.IntN(3))
			v := float64(random.IntN(200)-20) / 2
			switch step := random.IntN(20); {
			case step < 5:
				each(func(c *gotheus.Vec[gotheus.Counter], _ *gotheus.Vec[gotheus.Histogram]) { c.With(label).Inc() })
			case step < 9:
				each(func(c *gotheus.Vec[gotheus.Counter], _ *gotheus.Vec[gotheus.Histogram]) {
					c.With(label).Add(math.Abs(v))
				})
			case step < 15:
				each(func(_ *gotheus.Vec[gotheus.Counter], h *gotheus.Vec[gotheus.Histogram]) { h.With(label).Observe(v) })
			case step < 17:
				each(func(_ *gotheus.Vec[gotheus.Counter], h *gotheus.Vec[gotheus.Histogram]) {
					h.With(label).ObserveN(v, 1<<40)
				})
			case step < 18:
				each(func(c *gotheus.Vec[gotheus.Counter], h *gotheus.Vec[gotheus.Histogram]) {
					c.DeleteMatching(gotheus.Labels{"l": label})
					h.DeleteMatching(gotheus.Labels{"l": label})
				})
			case bound:
				if err := r.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				bindHeap(t, r)
				bound = false
			default:
				r.Close(t.Context()) // the heap
				bind(t, r, url)
				bound = true
			}
			text := page(t, r)
			var plain, striped strings.Builder
			for line := range strings.Lines(text) {
				switch {
				case strings.HasPrefix(line, "striped"):
					striped.WriteString(strings.TrimPrefix(line, "striped"))
				case strings.HasPrefix(line, "plain"):
					plain.WriteString(strings.TrimPrefix(line, "plain"))
				}
			}
			if striped.String() != plain.String() {
				t.Fatalf("seed %d: striped:\n%s\nplain:\n%s", seed, striped.String(), plain.String())
			}
		}
	}
}

// While a striped histogram and counter are bound and scraped, no update is lost or counted twice.
func TestStripesUnderLoad(t *testing.T) {
	t.Parallel()
	const goroutines, each = 8, 5000
	r, _ := newRegistry(t, nil)
	o := gotheus.CounterOptions{Stripes: 3}
	h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Stripes: o.Stripes})
	c := r.NewCounter("c_total", "C.", &o)
	var wait sync.WaitGroup
	for range goroutines {
		wait.Go(func() {
			for i := range each {
				h.Observe(float64(i % 16))
				c.Inc()
				c.Add(.5)
			}
		})
	}
	bind(t, r, shmURL(t))
	for range 10 {
		page(t, r)
	}
	wait.Wait()
	if n, sum := h.Count(), h.Sum(); n != goroutines*each || sum != goroutines*(each/16*120+float64(each%16)*float64(each%16-1)/2) {
		t.Errorf("%d observations, %v", n, sum)
	}
	if v := c.Value(); v != goroutines*each*1.5 {
		t.Errorf("the counter is %v", v)
	}
}

// An idle series with stripes expires. It does not if only its last stripe has changed.
func TestStripesTTL(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	b := heap.New()
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	v := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Stripes: 3, TTL: time.Hour}, "l")
	v.With("idle").Observe(1)
	v.With("busy").Observe(1)
	var f *backend.Family
	for _, g := range b.Walk() {
		if g.Family.Name == "h" {
			f = g.Family
		}
	}
	busy, err := b.Cells(f, `l="busy"`)
	if err != nil {
		t.Fatal(err)
	}
	for minutes := range 70 {
		// Like an update on another processor.
		busy[2*f.StripeWords()+backend.HistogramBuckets].Add(1)
		sweep(r, time.Unix(int64(minutes)*60, 0))
	}
	if text := page(t, r); strings.Contains(text, "idle") || !strings.Contains(text, `h_count{l="busy"} 71`) {
		t.Errorf("got\n%s", text)
	}
	v.With("idle").Observe(1)
	pageHas(t, r, `h_count{l="idle"} 1`)
}

// However full the stripes are, their sum does not wrap around.
func TestStripesLimit(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	b := heap.New()
	if err := r.BindBackend(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	const stripes = 64
	o := gotheus.CounterOptions{Stripes: stripes}
	c := r.NewCounter("c_total", "C.", &o)
	h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Stripes: o.Stripes, Buckets: []float64{1}})
	for _, g := range b.Walk() {
		words := g.Series[0].Words
		for i := range stripes {
			w := words[i*g.Family.StripeWords():]
			if g.Family.Kind == backend.Counter {
				w[backend.CounterInt].Store(backend.IntLimit - 1)
			} else {
				w[backend.HistogramBuckets].Store(g.Family.BucketLimit())
				w[backend.HistogramBuckets+1].Store(g.Family.BucketLimit())
			}
		}
	}
	c.Add(1<<53 - 1)
	h.ObserveN(0, 1) // is refused
	if v, want := c.Value(), stripes*0x1p62+0x1p53; math.Abs(v-want) > want*1e-12 {
		t.Errorf("the counter is %v", v)
	}
	if n := h.Count(); n != backend.IntLimit {
		t.Errorf("%d observations", n)
	}
}
