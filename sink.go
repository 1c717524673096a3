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

// Sink takes a collector's families during its Collect; it must not be used afterwards, nor by several
// goroutines at once. The registry's prefix and constant labels are added. A family that could not be
// exposed is left out, reported and counted, and the others are shown. For each type of family there is a
// method that begins one and returns a writer, whose methods add series: a value for each label comes last,
// in the order in which the labels were given.
type Sink struct {
	reg        *Registry
	perProcess bool // what is given is stored for this instance
	library    bool // the families are the library's own
	families   []*collected
	errs       []error
}

// collected is a family while a collector gives it.
type collected struct {
	page.Collected
	open []int // for each label the index of its value in Put's arguments; -1: constant
	err  error
}

// familyError is an error about one family of a collector.
type familyError struct {
	name string
	err  error
}

func (e *familyError) Error() string { return e.err.Error() }
func (e *familyError) Unwrap() error { return e.err }

// Error reports what the collector had to leave out, while the rest is shown; it is counted and logged like an
// error that Collect returns.
func (s *Sink) Error(err error) { s.errs = append(s.errs, err) }

// Counter begins a family of counters.
func (s *Sink) Counter(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.family(expo.Counter, name, help, nil, labels), s}
}

// Gauge begins a family of gauges.
func (s *Sink) Gauge(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.family(expo.Gauge, name, help, nil, labels), s}
}

// Untyped begins a family of values whose type is not known.
func (s *Sink) Untyped(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.family(expo.Untyped, name, help, nil, labels), s}
}

// Info begins a family of facts that are label values. The name must end in _info.
func (s *Sink) Info(name, help string, labels ...string) *InfoWriter {
	return &InfoWriter{s.family(expo.Info, name, help, nil, labels), s}
}

// StateSet begins a family whose series have states, at most 53, that are on or off.
func (s *Sink) StateSet(name, help string, states []string, labels ...string) *StateSetWriter {
	return &StateSetWriter{s.family(expo.StateSet, name, help, states, labels), s}
}

// Histogram begins a family of histograms with the given upper bounds, ascending and without +Inf.
func (s *Sink) Histogram(name, help string, bounds []float64, labels ...string) *HistogramWriter {
	return &HistogramWriter{s.family(expo.Histogram, name, help, bounds, labels), s}
}

// Summary begins a family of summaries with the given quantiles, ascending and from 0 to 1.
func (s *Sink) Summary(name, help string, quantiles []float64, labels ...string) *SummaryWriter {
	return &SummaryWriter{s.family(expo.Summary, name, help, quantiles, labels), s}
}

// NumberWriter adds series to a family of single values.
type NumberWriter struct {
	f *collected
	s *Sink
}

// Put adds a series: its value, and one value for each label. A counter must not be negative or NaN.
func (p *NumberWriter) Put(v float64, values ...string) {
	p.PutNumber(expo.Number{Float: v}, values...)
}

// PutNumber is Put for values with a time or a start time, for counters with an exemplar, and for integers
// above 2^53.
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

// Put adds a fact: one value for each label.
func (p *InfoWriter) Put(values ...string) {
	p.f.put(p.s.reg, page.Row{Number: expo.Number{Int: 1}}, values)
}

// StateSetWriter adds series to a family with states.
type StateSetWriter struct {
	f *collected
	s *Sink
}

// Put adds a series: those of its states that are on, and one value for each label.
func (p *StateSetWriter) Put(on []string, values ...string) {
	var bits uint64
	for _, state := range on {
		i := slices.Index(p.f.Def.States, state)
		if i < 0 {
			p.f.fail("there is no state %q, there are %q", state, p.f.Def.States)
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

// Put adds a series: the count and sum of all its observations, for each bound how many observations
// were not above it, and one value for each label.
func (p *HistogramWriter) Put(count uint64, sum float64, cumulative []uint64, values ...string) {
	p.PutDistribution(expo.Distribution{Count: count, Sum: sum, Buckets: cumulative}, values...)
}

// PutDistribution is Put for histograms with a time, a start time, exemplars or exponential buckets. What d
// points to must not be changed afterwards.
func (p *HistogramWriter) PutDistribution(d expo.Distribution, values ...string) {
	switch n := len(p.f.Bounds); {
	case len(d.Buckets) != n:
		p.f.fail("%d bucket counts for %d bounds", len(d.Buckets), n)
	case !slices.IsSorted(d.Buckets) || n > 0 && d.Buckets[n-1] > d.Count:
		p.f.fail("bucket counts %v and the count of all, %d, must not decrease", d.Buckets, d.Count)
	case d.Exemplars != nil && len(d.Exemplars) != n+1:
		p.f.fail("%d exemplars for %d buckets with that of +Inf", len(d.Exemplars), n+1)
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

// Put adds a series: the count and sum of all its observations, for each quantile its value, and one
// value for each label.
func (p *SummaryWriter) Put(count uint64, sum float64, at []float64, values ...string) {
	p.PutDistribution(expo.Distribution{Count: count, Sum: sum, Quantiles: at}, values...)
}

// PutDistribution is Put for summaries with a time or a start time.
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

// family begins a family; more are the bounds, quantiles or states that it has.
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
	f.fail("what a process collector gives must have neither times nor exemplars nor exponential buckets")
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

// checkNative checks what the fields of expo.Native promise.
func (f *collected) checkNative(n *expo.Native, count uint64) {
	total := n.ZeroCount
	for _, side := range [][]expo.NativeBucket{n.Positive, n.Negative} {
		for i, b := range side {
			if b.Count == 0 || i > 0 && side[i-1].Index >= b.Index {
				f.fail("exponential buckets must be ascending, without empty ones")
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
		f.fail("%d label values given for labels %q", len(values), f.Def.Labels)
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

// check sorts what was put and drops families that cannot be exposed.
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

// collected returns what was given.
func (s *Sink) collected() []*page.Collected {
	list := make([]*page.Collected, len(s.families))
	for i, f := range s.families {
		list[i] = &f.Collected
	}
	return list
}
