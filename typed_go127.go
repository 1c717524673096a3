//go:build go1.27

package gotheus

// Methods with type parameters need Go 1.27.

// NewCounterOf returns a family of counters of r, with the fields of L as labels. Help is required.
// It panics with [TryNewVecOf]'s error. It needs Go 1.27; before, use TryNewVecOf.
func (r *Registry) NewCounterOf[L comparable](name, help string, o *CounterOptions) *VecOf[L, Counter] {
	return Must(TryNewVecOf[L, Counter](r, name, help, o))
}

// NewGaugeOf returns a family of gauges of r, with the fields of L as labels. Help is required. It
// panics with [TryNewVecOf]'s error. It needs Go 1.27; before, use TryNewVecOf.
func (r *Registry) NewGaugeOf[L comparable](name, help string, o *GaugeOptions) *VecOf[L, Gauge] {
	return Must(TryNewVecOf[L, Gauge](r, name, help, o))
}

// NewHistogramOf returns a family of histograms of r, with the fields of L as labels. Help is
// required. It panics with [TryNewVecOf]'s error. It needs Go 1.27; before, use TryNewVecOf.
func (r *Registry) NewHistogramOf[L comparable](name, help string, o *HistogramOptions) *VecOf[L, Histogram] {
	return Must(TryNewVecOf[L, Histogram](r, name, help, o))
}

// NewSummaryOf returns a family of summaries of r, with the fields of L as labels. Help is
// required. It panics with [TryNewVecOf]'s error. It needs Go 1.27; before, use TryNewVecOf.
func (r *Registry) NewSummaryOf[L comparable](name, help string, o *SummaryOptions) *VecOf[L, Summary] {
	return Must(TryNewVecOf[L, Summary](r, name, help, o))
}

// NewStateSetOf returns a family of state sets of r, with the fields of L as labels. Help and
// states are required. It panics with [TryNewStateSetOf]'s error. It needs Go 1.27; before, use
// TryNewStateSetOf.
func (r *Registry) NewStateSetOf[L comparable](name, help string, states []string, o *StateSetOptions) *VecOf[L, StateSet] {
	return Must(TryNewStateSetOf[L](r, name, help, states, o))
}
