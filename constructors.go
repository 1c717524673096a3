package gotheus

import "github.com/gotheus/gotheus/internal/series"

// Must returns v, or panics with err if that is not nil.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// New returns the instrument with that name in r, which it makes if there is none; nil is the default
// registry. The error wraps ErrInvalid, or ErrConflict if the name is taken by another definition.
func New[M Instrument](r *Registry, name, help string, o OptionsFor[M]) (*M, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return newSingle(r, name, help, o)
}

func newSingle[M Instrument](r *Registry, name, help string, o OptionsFor[M]) (*M, error) {
	f, err := define(orDefault(r), name, help, o, false, nil)
	if err != nil {
		return nil, err
	}
	v := &Vec[M]{fam: f, table: f.Table().(*series.Table[M])}
	return v.TryWith()
}

// NewVec returns the family with that name and those labels in r, which it makes if there is none; nil is
// the default registry. The order of labels is that of With's values; it is not part of the family's
// identity. The error wraps ErrInvalid, or ErrConflict if the name is taken by another definition.
func NewVec[M Instrument](r *Registry, name, help string, o OptionsFor[M], labels ...string) (*Vec[M], error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return newVecOn(r, name, help, o, labels...)
}

func newVecOn[M Instrument](r *Registry, name, help string, o OptionsFor[M], labels ...string) (*Vec[M], error) {
	f, err := define(orDefault(r), name, help, o, true, labels)
	if err != nil {
		return nil, err
	}
	return newVec[M](f, optionsFor(o).common(), labels)
}

func orDefault(r *Registry) *Registry {
	if r == nil {
		return Default()
	}
	return r
}

// The constructors below return what New and NewVec return and panic with their error. They are meant for
// definitions that are part of the program; for names that come from elsewhere use New and NewVec.

// NewCounter returns a counter of the default registry.
func NewCounter(name, help string, o *Options) *Counter { return Default().NewCounter(name, help, o) }

// NewGauge returns a gauge of the default registry.
func NewGauge(name, help string, o *GaugeOptions) *Gauge { return Default().NewGauge(name, help, o) }

// NewHistogram returns a histogram of the default registry.
func NewHistogram(name, help string, o *HistogramOptions) *Histogram {
	return Default().NewHistogram(name, help, o)
}

// NewSummary returns a summary of the default registry.
func NewSummary(name, help string, o *SummaryOptions) *Summary {
	return Default().NewSummary(name, help, o)
}

// NewCounterVec returns a family of counters of the default registry.
func NewCounterVec(name, help string, o *Options, labels ...string) *Vec[Counter] {
	return Default().NewCounterVec(name, help, o, labels...)
}

// NewGaugeVec returns a family of gauges of the default registry.
func NewGaugeVec(name, help string, o *GaugeOptions, labels ...string) *Vec[Gauge] {
	return Default().NewGaugeVec(name, help, o, labels...)
}

// NewHistogramVec returns a family of histograms of the default registry.
func NewHistogramVec(name, help string, o *HistogramOptions, labels ...string) *Vec[Histogram] {
	return Default().NewHistogramVec(name, help, o, labels...)
}

// NewSummaryVec returns a family of summaries of the default registry.
func NewSummaryVec(name, help string, o *SummaryOptions, labels ...string) *Vec[Summary] {
	return Default().NewSummaryVec(name, help, o, labels...)
}

// NewStateSet returns a state set of the default registry. The options have its states.
func NewStateSet(name, help string, o *StateSetOptions) *StateSet {
	return Default().NewStateSet(name, help, o)
}

// NewStateSet returns a state set of r; it panics with New's error.
func (r *Registry) NewStateSet(name, help string, o *StateSetOptions) *StateSet {
	return Must(New[StateSet](r, name, help, o))
}

// NewStateSetVec returns a family of state sets of the default registry.
func NewStateSetVec(name, help string, o *StateSetOptions, labels ...string) *Vec[StateSet] {
	return Default().NewStateSetVec(name, help, o, labels...)
}

// NewStateSetVec returns a family of state sets of r; it panics with NewVec's error.
func (r *Registry) NewStateSetVec(name, help string, o *StateSetOptions, labels ...string) *Vec[StateSet] {
	return Must(NewVec[StateSet](r, name, help, o, labels...))
}

// NewCounter returns a counter of r; it panics with New's error.
func (r *Registry) NewCounter(name, help string, o *Options) *Counter {
	return Must(New[Counter](r, name, help, o))
}

// NewGauge returns a gauge of r; it panics with New's error.
func (r *Registry) NewGauge(name, help string, o *GaugeOptions) *Gauge {
	return Must(New[Gauge](r, name, help, o))
}

// NewHistogram returns a histogram of r; it panics with New's error.
func (r *Registry) NewHistogram(name, help string, o *HistogramOptions) *Histogram {
	return Must(New[Histogram](r, name, help, o))
}

// NewSummary returns a summary of r; it panics with New's error.
func (r *Registry) NewSummary(name, help string, o *SummaryOptions) *Summary {
	return Must(New[Summary](r, name, help, o))
}

// NewCounterVec returns a family of counters of r; it panics with NewVec's error.
func (r *Registry) NewCounterVec(name, help string, o *Options, labels ...string) *Vec[Counter] {
	return Must(NewVec[Counter](r, name, help, o, labels...))
}

// NewGaugeVec returns a family of gauges of r; it panics with NewVec's error.
func (r *Registry) NewGaugeVec(name, help string, o *GaugeOptions, labels ...string) *Vec[Gauge] {
	return Must(NewVec[Gauge](r, name, help, o, labels...))
}

// NewHistogramVec returns a family of histograms of r; it panics with NewVec's error.
func (r *Registry) NewHistogramVec(name, help string, o *HistogramOptions, labels ...string) *Vec[Histogram] {
	return Must(NewVec[Histogram](r, name, help, o, labels...))
}

// NewSummaryVec returns a family of summaries of r; it panics with NewVec's error.
func (r *Registry) NewSummaryVec(name, help string, o *SummaryOptions, labels ...string) *Vec[Summary] {
	return Must(NewVec[Summary](r, name, help, o, labels...))
}
