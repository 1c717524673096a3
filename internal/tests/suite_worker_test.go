package tests_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus"
)

// serveSuite is the main function of a worker.
func serveSuite(in io.Reader, out io.Writer, url string) {
	clock := new(suiteClock)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: quiet, Now: clock.now})
	if err := r.Bind(context.Background(), url); err != nil {
		panic(err)
	}
	defer func() {
		limit := time.Minute
		if isKilled(url) {
			limit = 0
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		r.Close(ctx)
	}()
	published := func() {}
	if strings.HasPrefix(url, "fleet:") { // others see changes only once they are published
		published = func() { r.Flush(context.Background()) }
	}
	s := &suiteWorker{r: r, clock: clock, gauges: map[string]*gotheus.Vec[gotheus.Gauge]{}, counters: map[string]*gotheus.Vec[gotheus.Counter]{},
		histograms: map[string]*gotheus.Vec[gotheus.Histogram]{}, summaries: map[string]*gotheus.Vec[gotheus.Summary]{}, kept: map[string]any{}}
	dec := json.NewDecoder(in)
	for {
		var c command
		if dec.Decode(&c) != nil {
			return
		}
		answer := s.do(c)
		published()
		json.NewEncoder(out).Encode(answer)
	}
}

// suiteClock is the system clock until it is set.
type suiteClock struct{ fake atomic.Int64 }

func (c *suiteClock) now() time.Time {
	if s := c.fake.Load(); s != 0 {
		return time.Unix(s, 0)
	}
	return time.Now()
}

type suiteWorker struct {
	r          *gotheus.Registry
	clock      *suiteClock
	counters   map[string]*gotheus.Vec[gotheus.Counter]
	gauges     map[string]*gotheus.Vec[gotheus.Gauge]
	histograms map[string]*gotheus.Vec[gotheus.Histogram]
	summaries  map[string]*gotheus.Vec[gotheus.Summary]
	kept       map[string]any
}

func (s *suiteWorker) do(c command) (answer string) {
	defer func() {
		if p := recover(); p != nil {
			answer = fmt.Sprint("panic: ", p)
		}
	}()
	if len(c.Names) == 0 {
		c.Names = []string{"l"}
	}
	help := c.Name + "."
	if c.Help != "" {
		help = c.Help
	}
	opts := gotheus.CounterOptions{TTL: c.TTL}
	switch c.Do {
	case "counter":
		s.counters[c.Name] = s.r.NewCounterVec(c.Name, help, &opts, c.Names...)
	case "gauge":
		s.gauges[c.Name] = s.r.NewGaugeVec(c.Name, help, &gotheus.GaugeOptions{TTL: c.TTL, Mode: c.Mode}, c.Names...)
	case "histogram":
		s.histograms[c.Name] = s.r.NewHistogramVec(c.Name, help, &gotheus.HistogramOptions{TTL: c.TTL, Buckets: []float64{1}}, c.Names...)
	case "native":
		s.histograms[c.Name] = s.r.NewHistogramVec(c.Name, help, &gotheus.HistogramOptions{TTL: c.TTL, Native: &gotheus.NativeOptions{Factor: 2, MaxBuckets: 60}}, c.Names...)
	case "summary":
		s.summaries[c.Name] = s.r.NewSummaryVec(c.Name, help, &gotheus.SummaryOptions{TTL: c.TTL, Objectives: []float64{.5, 1}}, c.Names...)
	case "window": // a summary whose quantiles are over four slots of V seconds
		s.summaries[c.Name] = s.r.NewSummaryVec(c.Name, help, &gotheus.SummaryOptions{Objectives: windowObjectives, MaxAge: time.Duration(4 * c.V * float64(time.Second)), Slots: 4}, c.Names...)
	case "clock": // set the clock to V seconds and run what timers would
		s.clock.fake.Store(int64(c.V))
		sweep(s.r, s.clock.now())
	case "quantiles":
		return strings.Trim(fmt.Sprint(distributions(s.r, c.Name)[c.Key].Quantiles), "[]")
	case "describe": // all data of a series
		d, ok := distributions(s.r, c.Name)[c.Key]
		if !ok {
			return "none"
		}
		text := fmt.Sprint("count ", d.Count)
		if n := d.Native; n != nil {
			text += fmt.Sprint(" schema ", n.Schema, " zeros ", n.ZeroCount, " positive ", n.Positive, " negative ", n.Negative)
			d.Exemplars = append(d.Exemplars, n.Exemplars...)
		}
		for _, q := range d.Quantiles {
			text += fmt.Sprintf(" %.1f", q)
		}
		for _, e := range d.Exemplars {
			text += fmt.Sprint(" {", e.Labels, "} ", e.Value)
		}
		return text
	case "start":
		return fmt.Sprint(distributions(s.r, c.Name)[c.Key].Start)
	case "example":
		if v := s.counters[c.Name]; v != nil {
			v.With(c.Values...).AddExemplar(c.V, c.Match)
		} else {
			s.histograms[c.Name].With(c.Values...).ObserveExemplar(c.V, c.Match)
		}
	case "inc":
		s.counters[c.Name].With(c.Values...).Add(c.V)
	case "keep":
		if v := s.counters[c.Name]; v != nil {
			s.kept[c.Key] = v.With(c.Values...)
		} else {
			s.kept[c.Key] = s.gauges[c.Name].With(c.Values...)
		}
	case "use":
		switch m := s.kept[c.Key].(type) {
		case *gotheus.Counter:
			m.Add(c.V)
		case *gotheus.Gauge:
			m.Add(c.V)
		}
	case "touch":
		s.gauges[c.Name].With(c.Values...)
	case "set":
		s.gauges[c.Name].With(c.Values...).Set(c.V)
	case "add":
		s.gauges[c.Name].With(c.Values...).Add(c.V)
	case "observe":
		if v := s.summaries[c.Name]; v != nil {
			v.With(c.Values...).Observe(c.V)
		} else {
			s.histograms[c.Name].With(c.Values...).Observe(c.V)
		}
	case "delete":
		switch {
		case s.counters[c.Name] != nil:
			return deleteFrom(s.counters[c.Name], c.Match)
		case s.gauges[c.Name] != nil:
			return deleteFrom(s.gauges[c.Name], c.Match)
		case s.summaries[c.Name] != nil:
			return deleteFrom(s.summaries[c.Name], c.Match)
		default:
			return deleteFrom(s.histograms[c.Name], c.Match)
		}
	case "reach": // look up method=GET, code=200, cached=true in one of several ways
		return s.reach(c)
	case "limited": // look up so many label sets of a family with a limit of three
		v := s.r.NewCounterVec(c.Name, help, &gotheus.CounterOptions{MaxSeries: 3}, c.Names...)
		for i := range int(c.V) {
			v.With(c.Key + fmt.Sprint(i)).Inc()
		}
	case "declare":
		s.counters[c.Name] = s.r.NewCounterVec(c.Name, help, &opts, c.Names...).Declare(gotheus.Labels{c.Names[0]: c.Values[0]})
	case "measure":
		p := &gotheus.Probe{
			Seconds:  s.r.NewHistogram("seconds", "S.", &gotheus.HistogramOptions{Buckets: []float64{}}).Observe,
			InFlight: s.r.NewGauge("in_flight", "I.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}),
			Errors:   s.r.NewCounter("errors_total", "E.", nil),
			Panics:   s.r.NewCounter("panics_total", "P.", nil),
			Now:      func() time.Time { return time.Unix(0, 0) },
		}
		p.Run(func() {})
		p.Do(func() error { return io.EOF })
		func() {
			defer func() { recover() }()
			p.Run(func() { panic("as asked for") })
		}()
		s.r.NewSummary("sizes", "Z.", nil).ObserveN(2, 3)
	case "unregister":
		return fmt.Sprint(s.r.HideFamily(c.Name))
	case "sweep": // at a time in seconds
		sweep(s.r, time.Unix(int64(c.V), 0))
	case "page":
		var b strings.Builder
		if err := s.r.Write(context.Background(), &b, &gotheus.WriteOptions{Scope: c.Scope}); err != nil {
			return "panic: " + err.Error()
		}
		var lines []string
		for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
			if !strings.HasPrefix(line, "#") && line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "; ")
	default:
		return "panic: what is " + c.Do + "?"
	}
	return ""
}

type reached struct {
	Method string
	Code   int
	Cached bool
}

func (s *suiteWorker) reach(c command) string {
	opts := gotheus.CounterOptions{
		Defaults:  gotheus.Labels{"method": "get"},
		Normalize: map[string]func(string) string{"method": strings.ToUpper, "code": gotheus.OneOf("200")},
	}
	plain := func(names ...string) *gotheus.Vec[gotheus.Counter] {
		return s.r.NewCounterVec("reached_total", "R.", nil, names...)
	}
	fancy := s.r.NewCounterVec("reached_total", "R.", &opts, "cached", "code", "method")
	typed := gotheus.Must(gotheus.TryNewVecOf[reached, gotheus.Counter](s.r, "reached_total", "R.", nil))
	var m *gotheus.Counter
	switch c.Key {
	case "values":
		m = plain("method", "code", "cached").With("GET", "200", "true")
	case "order":
		m = plain("cached", "method", "code").With("true", "GET", "200")
	case "names":
		m = plain("method", "code", "cached").WithLabels(gotheus.Labels{"method": "GET", "code": "200", "cached": "true"})
	case "default":
		m = fancy.With("true", "200")
	case "override":
		m = fancy.WithLabels(gotheus.Labels{"method": "Get", "code": "200", "cached": "true"})
	case "partial":
		m = fancy.Partial(gotheus.Labels{"code": "404"}).Partial(gotheus.Labels{"cached": "true", "code": "200"}).With()
	case "struct":
		m = typed.With(reached{"GET", 200, true})
	case "partial struct":
		m = gotheus.Partial(typed, func(code int) reached { return reached{"GET", code, true} }).With(200)
	case "delete": // includes normalised and partial values
		n := fancy.Partial(gotheus.Labels{"code": "200"}).DeleteMatching(gotheus.Labels{"method": "gEt"})
		typed.With(reached{"GET", 200, true}) // exists again, at zero
		return fmt.Sprint(n)
	}
	m.Inc()
	return ""
}

// deleteFrom deletes the series that match, or all if match is empty, and returns their number.
func deleteFrom[M gotheus.Instrument](v *gotheus.Vec[M], match gotheus.Labels) string {
	if len(match) == 0 {
		return fmt.Sprint(v.DeleteAll())
	}
	return fmt.Sprint(v.DeleteMatching(match))
}
