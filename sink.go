package gotheus

import (
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/collect"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
)

// Sink receives a collector's families during a call of Collect. It must not be used afterwards,
// nor by several goroutines at once. It adds the registry's prefix and constant labels. A family
// that is invalid is left out, logged and counted in gotheus_collector_errors_total; the others are
// shown. Each type of family has a method that begins one and returns a writer, whose methods add
// series. Their last arguments are the label values, in the order in which the labels were
// declared; U+FFFD replaces what is not UTF-8 in them. Help may be empty.
type Sink struct {
	rules    collect.Rules
	families []*collect.Draft
	errs     []error
}

func newSink(r *Registry, perProcess, library bool) *Sink {
	return &Sink{rules: collect.Rules{Prefix: r.opts.Prefix, Labels: series.Labels(r.opts.Labels), PerProcess: perProcess, Library: library}}
}

// Error reports something that the collector had to leave out, while the rest is shown. It is
// counted and logged like an error that Collect returns. It ignores nil.
func (s *Sink) Error(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// Counter begins a family of counters.
func (s *Sink) Counter(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.begin(expo.Counter, name, help, nil, labels)}
}

// Gauge begins a family of gauges.
func (s *Sink) Gauge(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.begin(expo.Gauge, name, help, nil, labels)}
}

// Untyped begins a family of values of unknown type.
func (s *Sink) Untyped(name, help string, labels ...string) *NumberWriter {
	return &NumberWriter{s.begin(expo.Untyped, name, help, nil, labels)}
}

// Info begins a family of infos, whose label values are facts. The name must end in _info.
func (s *Sink) Info(name, help string, labels ...string) *InfoWriter {
	return &InfoWriter{s.begin(expo.Info, name, help, nil, labels)}
}

// StateSet begins a family of state sets with these states, at most 53.
func (s *Sink) StateSet(name, help string, states []string, labels ...string) *StateSetWriter {
	return &StateSetWriter{s.begin(expo.StateSet, name, help, states, labels)}
}

// Histogram begins a family of histograms with these upper bounds, in ascending order and without
// +Inf.
func (s *Sink) Histogram(name, help string, bounds []float64, labels ...string) *HistogramWriter {
	return &HistogramWriter{s.begin(expo.Histogram, name, help, bounds, labels)}
}

// Summary begins a family of summaries with these quantiles, in ascending order and from 0 to 1.
func (s *Sink) Summary(name, help string, quantiles []float64, labels ...string) *SummaryWriter {
	return &SummaryWriter{s.begin(expo.Summary, name, help, quantiles, labels)}
}

// NumberWriter adds series to a family of single values.
type NumberWriter struct{ draft *collect.Draft }

// Put adds a series with the value v and one value for each label. A counter must not be negative
// or NaN.
func (p *NumberWriter) Put(v float64, values ...string) {
	p.PutNumber(expo.Number{Float: v}, values...)
}

// PutNumber is Put for values with a timestamp, counters with a start time or an exemplar, and
// integers above 2^53.
func (p *NumberWriter) PutNumber(n expo.Number, values ...string) { p.draft.Number(n, values) }

// InfoWriter adds facts to a family of infos.
type InfoWriter struct{ draft *collect.Draft }

// Put adds a series with one value for each label.
func (p *InfoWriter) Put(values ...string) { p.draft.Number(expo.Number{Int: 1}, values) }

// StateSetWriter adds series to a family with states.
type StateSetWriter struct{ draft *collect.Draft }

// Put adds a series with the states that are on and one value for each label.
func (p *StateSetWriter) Put(on []string, values ...string) { p.draft.States(on, values) }

// HistogramWriter adds series to a family of histograms.
type HistogramWriter struct{ draft *collect.Draft }

// Put adds a series with the count and sum of all observations, for each bound the number of
// observations that do not exceed it, and one value for each label.
func (p *HistogramWriter) Put(count uint64, sum float64, cumulative []uint64, values ...string) {
	p.PutDistribution(expo.Distribution{Count: count, Sum: sum, Buckets: cumulative}, values...)
}

// PutDistribution is Put for histograms with a timestamp, a start time, exemplars or exponential
// buckets. Exemplars and native buckets of d must not be changed afterwards.
func (p *HistogramWriter) PutDistribution(d expo.Distribution, values ...string) {
	p.draft.Histogram(d, values)
}

// SummaryWriter adds series to a family of summaries.
type SummaryWriter struct{ draft *collect.Draft }

// Put adds a series with the count and sum of all observations, the value of each quantile, and one
// value for each label.
func (p *SummaryWriter) Put(count uint64, sum float64, quantiles []float64, values ...string) {
	p.PutDistribution(expo.Distribution{Count: count, Sum: sum, Quantiles: quantiles}, values...)
}

// PutDistribution is Put for summaries with a timestamp or a start time.
func (p *SummaryWriter) PutDistribution(d expo.Distribution, values ...string) {
	p.draft.Summary(d, values)
}

// begin begins a family; more has its bounds, quantiles or states.
func (s *Sink) begin(t expo.Type, name, help string, more any, labels []string) *collect.Draft {
	d := collect.Begin(&s.rules, t, name, help, more, labels)
	s.families = append(s.families, d)
	return d
}

// check sorts the series and drops families that are invalid.
func (s *Sink) check() {
	var wrong []error
	s.families, wrong = collect.Check(s.families)
	s.errs = append(s.errs, wrong...)
}

// collected returns the families in the form that pages take.
func (s *Sink) collected() []*page.Collected {
	list := make([]*page.Collected, len(s.families))
	for i, f := range s.families {
		list[i] = &f.Collected
	}
	return list
}
