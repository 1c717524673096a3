package gotheus

import "github.com/gotheus/gotheus/internal/series"

// Must returns v, or panics with err if it is not nil.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TryNew returns the instrument with that name in r, or in the default registry if r is nil, and
// creates it if it does not exist. Help is required: it says what the metric counts or measures.
// The error wraps ErrInvalid, or ErrConflict if the name is taken by another definition. For state
// sets, use [TryNewStateSet].
func TryNew[M Counter | Gauge | Histogram | Summary](r *Registry, name, help string, o OptionsFor[M]) (*M, error) {
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

// TryNewVec returns the family with that name and those labels in r, or in the default registry if
// r is nil, and creates it if it does not exist. Help and at least one label are required. The
// order of the labels is that of With's values; it is not part of the family's identity. The error
// wraps ErrInvalid, or ErrConflict if the name is taken by another definition. For state sets, use
// [TryNewStateSetVec].
func TryNewVec[M Counter | Gauge | Histogram | Summary](r *Registry, name, help string, o OptionsFor[M], labels ...string) (*Vec[M], error) {
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

// TryNewStateSet returns the state set with that name and these states in r, or in the default
// registry if r is nil, and creates it if it does not exist. There must be from 1 to 53 states;
// their order is part of the family's identity. Help is required. The error wraps ErrInvalid, or
// ErrConflict if the name is taken by another definition.
func TryNewStateSet(r *Registry, name, help string, states []string, o *StateSetOptions) (*StateSet, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return newSingle[StateSet](r, name, help, stateSet{states, o})
}

// TryNewStateSetVec is like TryNewStateSet, for a family of state sets with labels as in
// [TryNewVec].
func TryNewStateSetVec(r *Registry, name, help string, states []string, o *StateSetOptions, labels ...string) (*StateSetVec, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return newVecOn[StateSet](r, name, help, stateSet{states, o}, labels...)
}

func orDefault(r *Registry) *Registry {
	if r == nil {
		return Default()
	}
	return r
}

// Families with labels, by type: short names for the declaration of fields, parameters and
// variables.
type (
	CounterVec   = Vec[Counter]
	GaugeVec     = Vec[Gauge]
	HistogramVec = Vec[Histogram]
	SummaryVec   = Vec[Summary]
	StateSetVec  = Vec[StateSet]
)

// The constructors below are like TryNew and TryNewVec, but panic with the error. They are for
// definitions in the program's code; for names that come from elsewhere, use TryNew and TryNewVec.

// NewCounter returns a counter of the default registry. Help is required. It panics with [TryNew]'s
// error.
func NewCounter(name, help string, o *CounterOptions) *Counter {
	return Default().NewCounter(name, help, o)
}

// NewGauge returns a gauge of the default registry. Help is required. It panics with [TryNew]'s
// error.
func NewGauge(name, help string, o *GaugeOptions) *Gauge {
	return Default().NewGauge(name, help, o)
}

// NewHistogram returns a histogram of the default registry. Help is required. It panics with
// [TryNew]'s error.
func NewHistogram(name, help string, o *HistogramOptions) *Histogram {
	return Default().NewHistogram(name, help, o)
}

// NewSummary returns a summary of the default registry. Help is required. It panics with [TryNew]'s
// error.
func NewSummary(name, help string, o *SummaryOptions) *Summary {
	return Default().NewSummary(name, help, o)
}

// NewCounterVec returns a family of counters of the default registry. Help is required, and at
// least one label. It panics with [TryNewVec]'s error.
func NewCounterVec(name, help string, o *CounterOptions, labels ...string) *CounterVec {
	return Default().NewCounterVec(name, help, o, labels...)
}

// NewGaugeVec returns a family of gauges of the default registry. Help is required, and at least
// one label. It panics with [TryNewVec]'s error.
func NewGaugeVec(name, help string, o *GaugeOptions, labels ...string) *GaugeVec {
	return Default().NewGaugeVec(name, help, o, labels...)
}

// NewHistogramVec returns a family of histograms of the default registry. Help is required, and at
// least one label. It panics with [TryNewVec]'s error.
func NewHistogramVec(name, help string, o *HistogramOptions, labels ...string) *HistogramVec {
	return Default().NewHistogramVec(name, help, o, labels...)
}

// NewSummaryVec returns a family of summaries of the default registry. Help is required, and at
// least one label. It panics with [TryNewVec]'s error.
func NewSummaryVec(name, help string, o *SummaryOptions, labels ...string) *SummaryVec {
	return Default().NewSummaryVec(name, help, o, labels...)
}

// NewStateSet returns a state set of the default registry. Help and states are required. It panics
// with [TryNewStateSet]'s error.
func NewStateSet(name, help string, states []string, o *StateSetOptions) *StateSet {
	return Default().NewStateSet(name, help, states, o)
}

// NewStateSetVec returns a family of state sets of the default registry. Help and states are
// required, and at least one label. It panics with [TryNewStateSetVec]'s error.
func NewStateSetVec(name, help string, states []string, o *StateSetOptions, labels ...string) *StateSetVec {
	return Default().NewStateSetVec(name, help, states, o, labels...)
}

// NewCounter returns a counter of r. Help is required. It panics with [TryNew]'s error.
func (r *Registry) NewCounter(name, help string, o *CounterOptions) *Counter {
	return Must(TryNew[Counter](r, name, help, o))
}

// NewGauge returns a gauge of r. Help is required. It panics with [TryNew]'s error.
func (r *Registry) NewGauge(name, help string, o *GaugeOptions) *Gauge {
	return Must(TryNew[Gauge](r, name, help, o))
}

// NewHistogram returns a histogram of r. Help is required. It panics with [TryNew]'s error.
func (r *Registry) NewHistogram(name, help string, o *HistogramOptions) *Histogram {
	return Must(TryNew[Histogram](r, name, help, o))
}

// NewSummary returns a summary of r. Help is required. It panics with [TryNew]'s error.
func (r *Registry) NewSummary(name, help string, o *SummaryOptions) *Summary {
	return Must(TryNew[Summary](r, name, help, o))
}

// NewCounterVec returns a family of counters of r. Help is required, and at least one label. It
// panics with [TryNewVec]'s error.
func (r *Registry) NewCounterVec(name, help string, o *CounterOptions, labels ...string) *CounterVec {
	return Must(TryNewVec[Counter](r, name, help, o, labels...))
}

// NewGaugeVec returns a family of gauges of r. Help is required, and at least one label. It panics
// with [TryNewVec]'s error.
func (r *Registry) NewGaugeVec(name, help string, o *GaugeOptions, labels ...string) *GaugeVec {
	return Must(TryNewVec[Gauge](r, name, help, o, labels...))
}

// NewHistogramVec returns a family of histograms of r. Help is required, and at least one label. It
// panics with [TryNewVec]'s error.
func (r *Registry) NewHistogramVec(name, help string, o *HistogramOptions, labels ...string) *HistogramVec {
	return Must(TryNewVec[Histogram](r, name, help, o, labels...))
}

// NewSummaryVec returns a family of summaries of r. Help is required, and at least one label. It
// panics with [TryNewVec]'s error.
func (r *Registry) NewSummaryVec(name, help string, o *SummaryOptions, labels ...string) *SummaryVec {
	return Must(TryNewVec[Summary](r, name, help, o, labels...))
}

// NewStateSet returns a state set of r. Help and states are required. It panics with
// [TryNewStateSet]'s error.
func (r *Registry) NewStateSet(name, help string, states []string, o *StateSetOptions) *StateSet {
	return Must(TryNewStateSet(r, name, help, states, o))
}

// NewStateSetVec returns a family of state sets of r. Help and states are required, and at least
// one label. It panics with [TryNewStateSetVec]'s error.
func (r *Registry) NewStateSetVec(name, help string, states []string, o *StateSetOptions, labels ...string) *StateSetVec {
	return Must(TryNewStateSetVec(r, name, help, states, o, labels...))
}
