package judges

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/gotheus/gotheus"
)

// expected is the page that a registry with options o must show. It is built in parallel to the
// operations on the registry, without using the library's output.
type expected struct {
	page
	o gotheus.RegistryOptions
}

func (e *expected) family(name, typ, help string) {
	e.page[e.o.Prefix+name] = &family{typ: typ, help: help}
}

// put expects a sample of a family; labels are alternating names and values.
func (e *expected) put(name, suffix string, value float64, labels ...string) {
	s := sample{name: e.o.Prefix + name + suffix, labels: make(map[string]string), value: value}
	for k, v := range e.o.Labels {
		s.labels[k] = v
	}
	for i := 0; i < len(labels); i += 2 {
		s.labels[labels[i]] = labels[i+1]
	}
	if err := e.page[e.o.Prefix+name].add(s); err != nil {
		panic(err)
	}
}

// histogram expects a histogram with the given observations.
func (e *expected) histogram(name string, bounds, observed []float64, labels ...string) {
	sum := 0.0
	for _, v := range observed {
		sum += v
	}
	for _, bound := range append(slices.Clone(bounds), math.Inf(1)) {
		n := 0
		for _, v := range observed {
			if v <= bound {
				n++
			}
		}
		e.put(name, "_bucket", float64(n), append(slices.Clone(labels), "le", formatFloat(bound))...)
	}
	e.put(name, "_sum", sum, labels...)
	e.put(name, "_count", float64(len(observed)), labels...)
}

// awkward are label values that need escaping or look as if they need it.
var awkward = []string{
	"", " ", "plain", `\`, `\\`, `"`, `\"`, "\n", `\n`, "a\nb\\n\"c\"", "Zürich, 東京 \U0001f980", `a="b",c="d`,
	"{}", "# HELP x y", "tab\tand\rreturn", "nul\x00bell\a", "\u2028\ufeff", "trailing \\", "+Inf", "0.50",
}

var helps = []string{
	"Plain.", `Back\slash, \n and \\.`, "Two\nlines\n", `With "quotes".`, "Zürich, 東京.", "# TYPE x counter", `ends in \`, "spaces at the end  ",
}

// floats are at most as many as awkward.
var floats = []float64{
	0, math.Copysign(0, -1), 1, -1, 0.1, 1e21, 1e-9, 123456789, 1 << 53, 1<<53 + 2, -(1 << 53), 1 << 63, math.Pi,
	math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64,
	math.Inf(1), math.Inf(-1), math.NaN(),
}

// corpus uses every kind of metric in r, and creates many series of one family. It returns the
// expected page.
func corpus(r *gotheus.Registry, o gotheus.RegistryOptions, many int) *expected {
	e := &expected{make(page), o}
	counters(r, e)
	gauges(r, e)
	distributions(r, e)
	withoutSeries(r, e)
	collected(r, e)

	vec := r.NewCounterVec("many_total", "Many series.", nil, "n", "parity")
	e.family("many_total", "counter", "Many series.")
	for i := range many {
		n, parity := strconv.Itoa(i), strconv.Itoa(i%2)
		vec.With(n, parity).Add(float64(i))
		e.put("many_total", "", float64(i), "n", n, "parity", parity)
	}
	return e
}

func counters(r *gotheus.Registry, e *expected) {
	for i, help := range helps {
		name := "helped_" + strconv.Itoa(i) + "_total"
		r.NewCounter(name, help, nil).Inc()
		e.family(name, "counter", help)
		e.put(name, "", 1)
	}
	const big = 1<<53 - 1 // the largest integer that Add takes exactly
	vec := r.NewCounterVec("counter_seconds_total", "Counters.", &gotheus.CounterOptions{Unit: "seconds"}, "is")
	e.family("counter_seconds_total", "counter", "Counters.")
	for is, add := range map[string][]float64{
		"zero": nil, "one": {1}, "integers": {1, 41, 1 << 40}, "half": {0.5}, "sum": {0.1, 0.2}, "both": {3, 0.25, 4},
		"2^53+1": {big, 1, 1}, "2^62": {1 << 62}, "smallest": {math.SmallestNonzeroFloat64}, "largest": {math.MaxFloat64},
		"infinite": {math.MaxFloat64, math.MaxFloat64},
	} {
		c, sum := vec.With(is), 0.0
		for _, v := range add {
			c.Add(v)
			sum += v
		}
		e.put("counter_seconds_total", "", sum, "is", is)
	}
	c := vec.With("2^60")
	for range 128 {
		c.Add(big)
		c.Inc()
	}
	e.put("counter_seconds_total", "", 1<<60, "is", "2^60")

	// Labels are not declared in the order of the page.
	escaped := r.NewCounterVec("escaped_total", "Label values.", nil, "z", "a")
	e.family("escaped_total", "counter", "Label values.")
	for i, z := range awkward {
		for j, a := range awkward {
			escaped.WithLabels(gotheus.Labels{"a": a, "z": z}).Add(float64(100*i + j))
			e.put("escaped_total", "", float64(100*i+j), "a", a, "z", z)
		}
	}
}

func gauges(r *gotheus.Registry, e *expected) {
	// le and quantile are ordinary labels of a gauge.
	vec := r.NewGaugeVec("gauge", "Gauges.", nil, "quantile", "le")
	e.family("gauge", "gauge", "Gauges.")
	for i, v := range floats {
		n := strconv.Itoa(i)
		vec.With(n, "1.0").Set(v)
		e.put("gauge", "", v, "quantile", n, "le", "1.0")
		vec.With(n, "added").Add(v)
		e.put("gauge", "", 0+v, "quantile", n, "le", "added")
	}
}

func distributions(r *gotheus.Registry, e *expected) {
	observed := []float64{0.003, 0.005, 0.3, -2, 7, 11, 0, 1e9, math.SmallestNonzeroFloat64}
	for name, bounds := range map[string][]float64{
		"default_seconds": nil, "custom": {-10.5, -2, 0, 1e-300, 3, 1e6, 1e21, math.MaxFloat64}, "one": {-1}, "none": {},
	} {
		h := r.NewHistogram(name, "Histogram.", &gotheus.HistogramOptions{Buckets: bounds})
		if bounds == nil {
			bounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
		}
		e.family(name, "histogram", "Histogram.")
		for _, v := range observed {
			h.Observe(v)
		}
		e.histogram(name, bounds, observed)
	}

	largest := []float64{math.MaxFloat64, math.MaxFloat64} // their sum is infinite
	histograms := r.NewHistogramVec("histogram_bytes", "Histograms.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}}, "key")
	summaries := r.NewSummaryVec("summary_bytes", "Summaries.", nil, "key")
	e.family("histogram_bytes", "histogram", "Histograms.")
	e.family("summary_bytes", "summary", "Summaries.")
	for i, key := range awkward {
		list := slices.Concat(observed[:i%len(observed)], largest[:i%3])
		h, s, sum := histograms.With(key), summaries.With(key), 0.0
		for _, v := range list {
			h.Observe(v)
			s.Observe(v)
			sum += v
		}
		e.histogram("histogram_bytes", []float64{1, 2}, list, "key", key)
		e.put("summary_bytes", "_sum", sum, "key", key)
		e.put("summary_bytes", "_count", float64(len(list)), "key", key)
	}
}

func withoutSeries(r *gotheus.Registry, e *expected) {
	r.NewCounterVec("no_counter_total", "None.", nil, "a")
	e.family("no_counter_total", "counter", "None.")
	r.NewGaugeVec("no_gauge", "None.", nil, "a")
	e.family("no_gauge", "gauge", "None.")
	r.NewHistogramVec("no_histogram", "None.", nil, "a")
	e.family("no_histogram", "histogram", "None.")
	r.NewSummaryVec("no_summary", "None.", nil, "a")
	e.family("no_summary", "summary", "None.")
}

// collected adds a collector with a family of every kind.
func collected(r *gotheus.Registry, e *expected) {
	r.Register(gotheus.CollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Counter("found_total", "Found \\ counted.", "z", "a").Put(1<<53, awkward[9], "x")
		untyped := s.Untyped("found_untyped", "Found.", "i")
		gauge := s.Gauge("found_gauge", "Found.", "i")
		for i, v := range floats {
			untyped.Put(v, strconv.Itoa(i))
			gauge.Put(v, awkward[i])
		}
		h := s.Histogram("found_histogram", "Found.", []float64{-1, 0, 2.5}, "a")
		h.Put(10, -3.5, []uint64{1, 1, 9}, "x")
		h.Put(0, 0, []uint64{0, 0, 0}, "")
		s.Histogram("found_no_bounds", "Found.", nil).Put(3, math.Inf(1), nil)
		q := s.Summary("found_summary", "Found.", []float64{0, 0.5, 0.99, 1}, "a")
		q.Put(1<<53, 4, []float64{-1, math.NaN(), math.Inf(1), 2}, "x")
		s.Summary("found_no_quantiles", "Found.", nil).Put(0, math.NaN(), nil)
		s.Gauge("found_nothing", "Found.", "a")
		return nil
	}))
	e.family("found_total", "counter", "Found \\ counted.")
	e.put("found_total", "", 1<<53, "z", awkward[9], "a", "x")
	e.family("found_untyped", "unknown", "Found.")
	e.family("found_gauge", "gauge", "Found.")
	for i, v := range floats {
		e.put("found_untyped", "", v, "i", strconv.Itoa(i))
		e.put("found_gauge", "", v, "i", awkward[i])
	}
	e.family("found_histogram", "histogram", "Found.")
	for i, le := range []string{"-1", "0", "2.5", "+Inf"} {
		e.put("found_histogram", "_bucket", []float64{1, 1, 9, 10}[i], "a", "x", "le", le)
		e.put("found_histogram", "_bucket", 0, "a", "", "le", le)
	}
	e.put("found_histogram", "_sum", -3.5, "a", "x")
	e.put("found_histogram", "_count", 10, "a", "x")
	e.put("found_histogram", "_sum", 0, "a", "")
	e.put("found_histogram", "_count", 0, "a", "")
	e.family("found_no_bounds", "histogram", "Found.")
	e.put("found_no_bounds", "_bucket", 3, "le", "+Inf")
	e.put("found_no_bounds", "_sum", math.Inf(1))
	e.put("found_no_bounds", "_count", 3)
	e.family("found_summary", "summary", "Found.")
	for i, q := range []string{"0", "0.5", "0.99", "1"} {
		e.put("found_summary", "", []float64{-1, math.NaN(), math.Inf(1), 2}[i], "a", "x", "quantile", q)
	}
	e.put("found_summary", "_sum", 4, "a", "x")
	e.put("found_summary", "_count", 1<<53, "a", "x")
	e.family("found_no_quantiles", "summary", "Found.")
	e.put("found_no_quantiles", "_sum", math.NaN())
	e.put("found_no_quantiles", "_count", 0)
	e.family("found_nothing", "gauge", "Found.")
}
