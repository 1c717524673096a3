package gotheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus/backend"
	"github.com/gotheus/gotheus/expo"
)

// Collector makes families at scrape time, in the process that is scraped: for facts that live
// elsewhere, such as the length of a queue. If Collect returns an error or panics, or has not returned
// when ctx ends, the page goes without its families; that is counted in gotheus_collector_errors_total
// and logged. Collect is never called again before it has returned.
type Collector interface {
	Collect(ctx context.Context, s *Sink) error
}

// CollectorFunc is a function that is a Collector.
type CollectorFunc func(ctx context.Context, s *Sink) error

// Collect calls f.
func (f CollectorFunc) Collect(ctx context.Context, s *Sink) error { return f(ctx, s) }

type collector struct {
	c      Collector
	busy   atomic.Bool
	errors *Counter // nil if there are no self-metrics
}

// Add asks c at every scrape from now on, until remove is called.
func (r *Registry) Add(c Collector) (remove func()) {
	entry := &collector{c: c}
	if !r.opts.NoSelfMetrics {
		entry.errors, _ = newOwn(r, collectorErrorsName, collectorErrorsHelp)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectors = append(r.collectors, entry)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.collectors = slices.DeleteFunc(slices.Clone(r.collectors), func(e *collector) bool { return e == entry })
	}
}

// collect asks all collectors at once and returns the families of those that answer before ctx ends.
func (r *Registry) collect(ctx context.Context) []*collected {
	r.mu.Lock()
	all := slices.Clone(r.collectors)
	r.mu.Unlock()
	var wait sync.WaitGroup
	sinks := make([]*Sink, len(all))
	for i, c := range all {
		wait.Add(1)
		go func() {
			defer wait.Done()
			s := &Sink{reg: r}
			if err := c.ask(ctx, s); err != nil {
				r.leftOut(c, err)
				return
			}
			sinks[i] = s
			for _, err := range s.errs {
				r.leftOut(c, err)
			}
		}()
	}
	wait.Wait()
	var families []*collected
	for _, s := range sinks {
		if s != nil {
			families = append(families, s.families...)
		}
	}
	return families
}

// ask runs Collect, and gives up on it when ctx ends. The sink is then lost to the caller.
func (c *collector) ask(ctx context.Context, s *Sink) error {
	if !c.busy.CompareAndSwap(false, true) {
		return errors.New("it is still at work on an earlier scrape")
	}
	done := make(chan error, 1)
	go func() {
		err := errors.New("it has ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			c.busy.Store(false)
			done <- err
		}()
		err = c.c.Collect(ctx, s)
		s.check()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("it has not answered in time: %w", ctx.Err())
	}
}

func (r *Registry) leftOut(c *collector, err error) {
	if c.errors != nil {
		c.errors.Inc()
	}
	r.log(slog.LevelError, fmt.Sprintf("collect %p", c), "a collector's families were left out of the page",
		"collector", fmt.Sprintf("%T", c.c), "error", err)
}

// Sink takes a collector's families during its Collect; it must not be used afterwards, nor by several
// goroutines at once. The registry's prefix and constant labels are added. A family that could not be
// exposed is left out, reported and counted, and the others are shown.
type Sink struct {
	reg      *Registry
	families []*collected
	errs     []error
}

// collected is a family of a collector.
type collected struct {
	expo.Family
	def  backend.Family // for its labels
	open []int          // for each label the index of its value in Put's arguments; -1: constant
	rows []row
	err  error
}

type row struct {
	labels string
	value  float64
	dist   expo.Distribution
}

// Counter begins a family of counters.
func (s *Sink) Counter(name, help string, labels ...string) *Points {
	return &Points{s.family(expo.Counter, name, help, nil, labels), s.reg}
}

// Gauge begins a family of gauges.
func (s *Sink) Gauge(name, help string, labels ...string) *Points {
	return &Points{s.family(expo.Gauge, name, help, nil, labels), s.reg}
}

// Untyped begins a family of values whose type is not known.
func (s *Sink) Untyped(name, help string, labels ...string) *Points {
	return &Points{s.family(expo.Untyped, name, help, nil, labels), s.reg}
}

// Histogram begins a family of histograms with the given upper bounds, ascending and without +Inf.
func (s *Sink) Histogram(name, help string, bounds []float64, labels ...string) *Histograms {
	return &Histograms{s.family(expo.Histogram, name, help, bounds, labels), s.reg}
}

// Summary begins a family of summaries with the given quantiles, ascending and from 0 to 1.
func (s *Sink) Summary(name, help string, quantiles []float64, labels ...string) *Summaries {
	return &Summaries{s.family(expo.Summary, name, help, quantiles, labels), s.reg}
}

// Points is a family of single values.
type Points struct {
	f   *collected
	reg *Registry
}

// Put adds a series: its value, and one value for each label. A counter must not be negative or NaN.
func (p *Points) Put(v float64, values ...string) {
	if p.f.Type == expo.Counter && !(v >= 0) {
		p.f.fail("the value of a counter is %v", v)
	}
	p.f.put(p.reg, row{value: v}, values)
}

// Histograms is a family of histograms.
type Histograms struct {
	f   *collected
	reg *Registry
}

// Put adds a series: the count and sum of all its observations, for each bound how many observations
// were not above it, and one value for each label.
func (p *Histograms) Put(count uint64, sum float64, cumulative []uint64, values ...string) {
	switch {
	case len(cumulative) != len(p.f.Bounds):
		p.f.fail("%d bucket counts for %d bounds", len(cumulative), len(p.f.Bounds))
	case !slices.IsSorted(cumulative) || len(cumulative) > 0 && cumulative[len(cumulative)-1] > count:
		p.f.fail("bucket counts %v and the count of all, %d, must not decrease", cumulative, count)
	}
	p.f.put(p.reg, row{dist: expo.Distribution{Count: count, Sum: sum, Buckets: slices.Clone(cumulative)}}, values)
}

// Summaries is a family of summaries.
type Summaries struct {
	f   *collected
	reg *Registry
}

// Put adds a series: the count and sum of all its observations, for each quantile its value, and one
// value for each label.
func (p *Summaries) Put(count uint64, sum float64, at []float64, values ...string) {
	if len(at) != len(p.f.Bounds) {
		p.f.fail("%d values for %d quantiles", len(at), len(p.f.Bounds))
	}
	p.f.put(p.reg, row{dist: expo.Distribution{Count: count, Sum: sum, Quantiles: slices.Clone(at)}}, values)
}

func (s *Sink) family(t expo.Type, name, help string, bounds []float64, labels []string) *collected {
	f := &collected{Family: expo.Family{Name: s.reg.opts.Prefix + name, Help: help, Type: t, Bounds: slices.Clone(bounds)}}
	s.families = append(s.families, f)
	f.def = backend.Family{Name: f.Name, Help: help, Kind: backend.Gauge}
	switch t {
	case expo.Counter:
		f.def.Kind = backend.Counter
	case expo.Histogram:
		f.def.Kind, f.def.Buckets = backend.Histogram, f.Bounds
	case expo.Summary:
		f.def.Kind = backend.Summary
		for i, q := range bounds {
			if !(q >= 0 && q <= 1) || i > 0 && bounds[i-1] >= q {
				f.fail("quantiles %v must be ascending and from 0 to 1", f.Bounds)
			}
		}
	}
	constant := sortedKeys(s.reg.opts.Labels)
	var place []int
	f.def.Labels, place = backend.SortLabels(append(slices.Clone(labels), constant...))
	for _, p := range place {
		if p >= len(labels) {
			p = -1
		}
		f.open = append(f.open, p)
	}
	if err := f.def.Check(); err != nil {
		f.fail("%w", err)
	}
	return f
}

func (f *collected) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s: "+format, append([]any{ErrInvalid, f.Name}, args...)...)
	}
}

func (f *collected) put(r *Registry, w row, values []string) {
	if len(values) != len(f.def.Labels)-len(r.opts.Labels) {
		f.fail("%d label values given for labels %q", len(values), f.def.Labels)
	}
	if f.err != nil {
		return
	}
	all := make([]string, len(f.open))
	for i, p := range f.open {
		if p < 0 {
			all[i] = r.opts.Labels[f.def.Labels[i]]
		} else {
			all[i] = values[p]
		}
	}
	var err error
	if w.labels, err = f.def.LabelText(all...); err != nil {
		f.fail("%w", err)
	}
	f.rows = append(f.rows, w)
}

// check sorts what was put and drops families that cannot be exposed.
func (s *Sink) check() {
	names := make(map[string]bool)
	s.families = slices.DeleteFunc(s.families, func(f *collected) bool {
		slices.SortFunc(f.rows, func(a, b row) int { return strings.Compare(a.labels, b.labels) })
		for i := range f.rows {
			if i > 0 && f.rows[i].labels == f.rows[i-1].labels {
				f.fail("the series {%s} is given twice", f.rows[i].labels)
			}
			if f.Type == expo.Histogram && math.IsNaN(f.rows[i].dist.Sum) {
				f.fail("the sum of {%s} is NaN", f.rows[i].labels)
			}
		}
		if names[f.Name] {
			f.fail("the family is given twice")
		}
		names[f.Name] = true
		if f.err != nil {
			s.errs = append(s.errs, f.err)
		}
		return f.err != nil
	})
}
