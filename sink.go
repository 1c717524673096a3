package gotheus

import (
	"fmt"
	"math"
	"slices"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
)

// Sink receives a collector's families during a call of Collect. It must not be used afterwards,
// nor by several goroutines at once. It adds the registry's prefix and constant labels. A family
// that is invalid is left out, logged and counted in gotheus_collector_errors_total; the others are
// shown. Each type of family has a method that begins one and returns a writer, whose methods add
// series. Their last arguments are the label values, in the order in which the labels were
// declared.
type Sink struct {
	reg        *Registry
	perProcess bool // the families are stored for this process
	library    bool // the families are the library's own, whose names are reserved
	families   []*collected
	errs       []error
}

// collected is a family that a collector is writing.
type collected struct {
	page.Collected
	open []int // each label's index in Put's values; -1: it is constant
	err  error
}

// familyError is an error about one family of a collector.
type familyError struct {
	name string
	err  error
}

func (e *familyError) Error() string { return e.err.Error() }
func (e *familyError) Unwrap() error { return e.err }

// Error reports something that the collector had to leave out, while the rest is shown. It is
// counted and logged like an error that Collect returns.
func (s *Sink) Error(err error) { s.errs = append(s.errs, err) }

// Counter begins a family of counters.
func (s *Sink) Counter(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.family(expo.Counter, name, help, nil, labels), s}
}

// Gauge begins a family of gauges.
func (s *Sink) Gauge(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.family(expo.Gauge, name, help, nil, labels), s}
}

// Untyped begins a family of values of unknown type.
func (s *Sink) Untyped(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.family(expo.Untyped, name, help, nil, labels), s}
}

// Info begins a family of infos, whose label values are facts. The name must end in _info.
func (s *Sink) Info(name, help string, labels ...string) *InfoWriter {
	return &InfoWriter{s.family(expo.Info, name, help, nil, labels), s}
}

// StateSet begins a family of state sets with these states, of which there may be 53 at most.
func (s *Sink) StateSet(name, help string, states []string, labels ...string) *StateSetWriter {
	return &StateSetWriter{s.family(expo.StateSet, name, help, states, labels), s}
}

// Histogram begins a family of histograms with these upper bounds, in ascending order and without
// +Inf.
func (s *Sink) Histogram(name, help string, bounds []float64, labels ...string) *HistogramWriter {
	return &HistogramWriter{s.family(expo.Histogram, name, help, bounds, labels), s}
}

// Summary begins a family of summaries with these quantiles, in ascending order and from 0 to 1.
func (s *Sink) Summary(name, help string, quantiles []float64, labels ...string) *SummaryWriter {
	return &SummaryWriter{s.family(expo.Summary, name, help, quantiles, labels), s}
}

// NumberWriter adds series to a family of single values.
type NumberWriter struct {
	f *collected
	s *Sink
}

// Put adds a series with the value v and one value for each label. A counter must not be negative
// or NaN.
func (p *NumberWriter) Put(v float64, values ...string) {
	p.PutNumber(expo.Number{Float: v}, values...)
}

// PutNumber is Put for values with a timestamp, counters with a start time or an exemplar, and
// integers above 2^53.
func (p *NumberWriter) PutNumber(n expo.Number, values ...string) {
	if p.f.Type == expo.Counter && !(n.Value() >= 0) {
		p.f.fail("the value of a counter is %v", n.Value())
	}
	if n.Exemplar.Time != 0 && p.f.Type != expo.Counter {
		p.f.fail("a %v has no exemplars", p.f.Type)
	}
	if n.Start != 0 && p.f.Type != expo.Counter {
		p.f.fail("a %v has no start time", p.f.Type)
	}
	p.f.checkExemplars(n.Exemplar)
	if p.s.perProcess && (n.Start != 0 || n.Time != 0 || n.Exemplar.Time != 0) {
		p.f.failPerProcess()
	}
	p.f.put(p.s.reg, page.Row{Number: n}, values)
}

// InfoWriter adds facts to a family of infos.
type InfoWriter struct {
	f *collected
	s *Sink
}

// Put adds a series with one value for each label.
func (p *InfoWriter) Put(values ...string) {
	p.f.put(p.s.reg, page.Row{Number: expo.Number{Int: 1}}, values)
}

// StateSetWriter adds series to a family with states.
type StateSetWriter struct {
	f *collected
	s *Sink
}

// Put adds a series with the states that are on and one value for each label.
func (p *StateSetWriter) Put(on []string, values ...string) {
	var bits uint64
	for _, state := range on {
		i := slices.Index(p.f.Def.States, state)
		if i < 0 {
			p.f.fail("%q is not one of the states %q", state, p.f.Def.States)
			return
		}
		bits |= 1 << i
	}
	p.f.put(p.s.reg, page.Row{Number: expo.Number{Int: bits}}, values)
}

// HistogramWriter adds series to a family of histograms.
type HistogramWriter struct {
	f *collected
	s *Sink
}

// Put adds a series with the count and sum of all observations, for each bound the number of
// observations that do not exceed it, and one value for each label.
func (p *HistogramWriter) Put(count uint64, sum float64, cumulative []uint64, values ...string) {
	p.PutDistribution(expo.Distribution{Count: count, Sum: sum, Buckets: cumulative}, values...)
}

// PutDistribution is Put for histograms with a timestamp, a start time, exemplars or exponential
// buckets. Exemplars and native buckets of d must not be changed afterwards.
func (p *HistogramWriter) PutDistribution(d expo.Distribution, values ...string) {
	switch n := len(p.f.Bounds); {
	case len(d.Buckets) != n:
		p.f.fail("%d bucket counts for %d bounds", len(d.Buckets), n)
	case !slices.IsSorted(d.Buckets) || n > 0 && d.Buckets[n-1] > d.Count:
		p.f.fail("bucket counts %v and the total count %d must not decrease", d.Buckets, d.Count)
	case d.Exemplars != nil && len(d.Exemplars) != n+1:
		p.f.fail("%d exemplars for %d buckets, +Inf included", len(d.Exemplars), n+1)
	case d.Quantiles != nil:
		p.f.fail("a histogram has no quantiles")
	case math.IsNaN(d.Sum):
		p.f.fail("the sum is NaN")
	}
	p.f.checkExemplars(d.Exemplars...)
	if d.Native != nil {
		p.f.checkNative(d.Native, d.Count)
	}
	d.Buckets = slices.Clone(d.Buckets)
	p.f.putDistribution(p.s, d, values)
}

// SummaryWriter adds series to a family of summaries.
type SummaryWriter struct {
	f *collected
	s *Sink
}

// Put adds a series with the count and sum of all observations, the value of each quantile, and one
// value for each label.
func (p *SummaryWriter) Put(count uint64, sum float64, at []float64, values ...string) {
	p.PutDistribution(expo.Distribution{Count: count, Sum: sum, Quantiles: at}, values...)
}

// PutDistribution is Put for summaries with a timestamp or a start time.
func (p *SummaryWriter) PutDistribution(d expo.Distribution, values ...string) {
	switch {
	case len(d.Quantiles) != len(p.f.Bounds):
		p.f.fail("%d values for %d quantiles", len(d.Quantiles), len(p.f.Bounds))
	case d.Buckets != nil || d.Exemplars != nil || d.Native != nil:
		p.f.fail("a summary has neither buckets nor exemplars")
	}
	d.Quantiles = slices.Clone(d.Quantiles)
	p.f.putDistribution(p.s, d, values)
}

func (f *collected) putDistribution(s *Sink, d expo.Distribution, values []string) {
	if s.perProcess && (d.Start != 0 || d.Time != 0 || d.Exemplars != nil || d.Native != nil) {
		f.failPerProcess()
	}
	if s.perProcess && d.Count >= backend.IntLimit {
		f.fail("the count %d is not below 2^62", d.Count)
	}
	f.put(s.reg, page.Row{Dist: d}, values)
}

// family begins a family; more has its bounds, quantiles or states.
func (s *Sink) family(t expo.Type, name, help string, more any, labels []string) *collected {
	f := new(collected)
	f.Family = expo.Family{Name: s.reg.opts.Prefix + name, Help: help, Type: t}
	s.families = append(s.families, f)
	f.Def = backend.Family{Name: f.Name, Help: help, Kind: names.KindOf(t)}
	switch {
	case s.perProcess:
		f.Def.Mode = backend.PerInstance
	case t == expo.Untyped:
		f.Def.Kind = backend.Gauge // which has the same rules
	case t == expo.Info:
		f.Def.Mode = backend.Max
	}
	switch more := more.(type) {
	case []string:
		f.Def.States = slices.Clone(more)
	case []float64:
		f.Bounds = slices.Clone(more)
		if t == expo.Histogram || s.perProcess {
			f.Def.Buckets = f.Bounds
		} else if err := f.Def.CheckQuantiles(f.Bounds); err != nil {
			f.fail("%w", err)
		}
	}
	constant := sortedKeys(s.reg.opts.Labels)
	var place []int
	f.Def.Labels, place = backend.SortLabels(append(slices.Clone(labels), constant...))
	for _, p := range place {
		if p >= len(labels) {
			p = -1
		}
		f.open = append(f.open, p)
	}
	if err := f.Def.Check(); err != nil {
		f.fail("%w", err)
	}
	if !s.library {
		if err := checkName(name); err != nil {
			f.fail("%w", err)
		}
	}
	return f
}

func (f *collected) fail(format string, args ...any) {
	if f.err == nil {
		f.err = &familyError{f.Name, fmt.Errorf("%w: %s: "+format, append([]any{ErrInvalid, f.Name}, args...)...)}
	}
}

func (f *collected) failPerProcess() {
	f.fail("values of a process collector must not have timestamps, exemplars or exponential buckets")
}

func (f *collected) checkExemplars(list ...expo.Exemplar) {
	for _, x := range list {
		if x.Time == 0 {
			continue
		}
		var labels []string
		for name := range backend.ParseLabels(x.Labels) {
			labels = append(labels, name)
		}
		err := (&backend.Exemplar{Labels: x.Labels, Value: x.Value}).Check()
		if err == nil {
			err = series.CheckEscaped(labels)
		}
		if err != nil {
			f.fail("%w", err)
		}
	}
}

// checkNative checks what the documentation of expo.Native's fields promises.
func (f *collected) checkNative(n *expo.Native, count uint64) {
	total := n.ZeroCount
	for _, side := range [][]expo.NativeBucket{n.Positive, n.Negative} {
		for i, b := range side {
			if b.Count == 0 || i > 0 && side[i-1].Index >= b.Index {
				f.fail("exponential buckets must be in ascending order and not empty")
			}
			total += b.Count
		}
	}
	switch {
	case n.Schema < -4 || n.Schema > 8:
		f.fail("schema %d of exponential buckets: must be from -4 to 8", n.Schema)
	case !(n.ZeroThreshold >= 0):
		f.fail("zero threshold %v: must not be negative", n.ZeroThreshold)
	case total != count:
		f.fail("exponential buckets hold %d observations, the count is %d", total, count)
	}
	f.checkExemplars(n.Exemplars...)
}

func (f *collected) put(r *Registry, w page.Row, values []string) {
	if len(values) != len(f.Def.Labels)-len(r.opts.Labels) {
		f.fail("%d label values for labels %q", len(values), f.Def.Labels)
	}
	if f.err != nil {
		return
	}
	all := make([]string, len(f.open))
	for i, p := range f.open {
		if p < 0 {
			all[i] = r.opts.Labels[f.Def.Labels[i]]
		} else {
			all[i] = values[p]
		}
	}
	var err error
	if w.Labels, err = f.Def.LabelText(all...); err != nil {
		f.fail("%w", err)
	}
	f.Rows = append(f.Rows, w)
}

// check sorts the series and drops families that are invalid.
func (s *Sink) check() {
	taken := make(map[string]bool)
	s.families = slices.DeleteFunc(s.families, func(f *collected) bool {
		if err := f.Sort(); err != nil {
			f.fail("%w", err)
		}
		if taken[f.Name] {
			f.fail("the family is given twice")
		}
		taken[f.Name] = true
		if f.err != nil {
			s.errs = append(s.errs, f.err)
		}
		return f.err != nil
	})
}

// collected returns the families in the form that pages take.
func (s *Sink) collected() []*page.Collected {
	list := make([]*page.Collected, len(s.families))
	for i, f := range s.families {
		list[i] = &f.Collected
	}
	return list
}
