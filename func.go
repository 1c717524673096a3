package gotheus

import (
	"context"
	"fmt"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// TryNewFunc makes a metric whose value is what f returns, in r or, if that is nil, in the default
// registry, until remove is called. Help is required. Where processes share a backend, f is called
// every few seconds ([RegistryOptions.SampleInterval]), otherwise at scrapes; never twice at once.
// If it returns an error or panics, or has not returned when a scrape's time is over, nothing else
// is touched; that is counted in gotheus_collector_errors_total and logged.
//
// For a counter, f returns a count of this process's that never goes down. The metric is the total
// over all processes, those that have ended included: what has been added since the last call is
// added to it. If f returns less than before, it is taken to have begun again from zero, as is a
// function that is new under a name that was removed. Flush and Close call f once more; what it
// counts in the last seconds before its process is killed is lost.
//
// For a gauge, f returns what this process has. The gauge has mode [ModePerProcess], unless the
// options have one other than [ModeShared]. As long as f fails, the process has no part in it.
//
// The error wraps ErrInvalid, also if f is nil, or ErrConflict if the name is taken.
func TryNewFunc[M Counter | Gauge](r *Registry, name, help string, o OptionsFor[M], f func() (float64, error)) (remove func(), err error) {
	return newFunc(r, name, help, o, f)
}

// TryNewUntypedFunc is TryNewFunc for a value whose type is not known, as when it comes from
// elsewhere. Its mode is [ModePerProcess], as a gauge's.
func TryNewUntypedFunc(r *Registry, name, help string, o *UntypedOptions, f func() (float64, error)) (remove func(), err error) {
	return newFunc[Gauge](r, name, help, untypedOptions{o}, f)
}

func newFunc[M Counter | Gauge](r *Registry, name, help string, o OptionsFor[M], f func() (float64, error)) (remove func(), err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	r = orDefault(r)
	fam, err := prepare(r, name, help, o, false, nil)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, fmt.Errorf("%w: %s: the function is nil", ErrInvalid, fam.Def.Name)
	}
	fam.Source, fam.Called = "a function", true
	if fam.Def.Kind == backend.Gauge && fam.Def.Mode == ModeShared {
		fam.Def.Mode = ModePerProcess
		g := givenBy(optionsFor(o))
		g.defaultMode = true
		g.apply(fam)
	}
	if fam, err = r.enter(fam); err != nil {
		return nil, err
	}
	fn := &function[M]{reg: r, vec: &Vec[M]{fam: fam, table: fam.Table().(*series.Table[M])}, f: f}
	entry := &collector{what: "the function of " + fam.Def.Name, process: true, collect: fn.call, store: fn.store}
	if fam.Def.Kind != backend.Counter {
		entry.lost = func() { fam.Vanish(func(series.Instrument) bool { return true }) }
	}
	entry.reg = r
	stop := r.base().add(entry)
	return sync.OnceFunc(func() { // once: later on, the name may be another function's
		stop()
		fam.SetCalled(false)
	}), nil
}

// function is a function's metric.
type function[M Instrument] struct {
	reg   *Registry
	vec   *Vec[M]
	f     func() (float64, error)
	known *M
	got   float64 // what f has returned; for store, which follows
	last  float64 // what of a counter's has been added
}

func (fn *function[M]) call(context.Context, *Sink) error {
	v, err := fn.f()
	name := fn.vec.fam.Def.Name
	if err == nil && fn.vec.fam.Def.Kind == backend.Counter && !(v >= 0 && word.Finite(v)) {
		err = fmt.Errorf("%s: the value of a counter is %v", name, v)
	}
	if err != nil {
		return &familyError{name, err}
	}
	fn.got = v
	return nil
}

func (fn *function[M]) store(*Sink) []error {
	m, err := fn.vec.TryWith()
	if err != nil {
		return []error{err}
	}
	if m != fn.known {
		fn.known = m
		fn.reg.base().sampledNew.Add(1)
	}
	switch m := any(m).(type) {
	case *Gauge:
		m.Set(fn.got)
	case *Counter:
		if fn.got < fn.last {
			fn.last = 0
		}
		m.Add(fn.got - fn.last)
		fn.last = fn.got
	}
	return nil
}

// NewCounterFunc makes a counter of r whose value is what f returns, as TryNewFunc does. Help is
// required. It panics with its error.
func (r *Registry) NewCounterFunc(name, help string, o *CounterOptions, f func() (float64, error)) (remove func()) {
	return Must(TryNewFunc[Counter](r, name, help, o, f))
}

// NewGaugeFunc makes a gauge of r whose value is what f returns, as TryNewFunc does. Help is
// required. It panics with its error.
func (r *Registry) NewGaugeFunc(name, help string, o *GaugeOptions, f func() (float64, error)) (remove func()) {
	return Must(TryNewFunc[Gauge](r, name, help, o, f))
}

// NewUntypedFunc makes a metric of r whose type is not known and whose value is what f returns, as
// TryNewUntypedFunc does. Help is required. It panics with its error.
func (r *Registry) NewUntypedFunc(name, help string, o *UntypedOptions, f func() (float64, error)) (remove func()) {
	return Must(TryNewUntypedFunc(r, name, help, o, f))
}

// NewCounterFunc is [Registry.NewCounterFunc] of the default registry.
func NewCounterFunc(name, help string, o *CounterOptions, f func() (float64, error)) (remove func()) {
	return Default().NewCounterFunc(name, help, o, f)
}

// NewGaugeFunc is [Registry.NewGaugeFunc] of the default registry.
func NewGaugeFunc(name, help string, o *GaugeOptions, f func() (float64, error)) (remove func()) {
	return Default().NewGaugeFunc(name, help, o, f)
}

// NewUntypedFunc is [Registry.NewUntypedFunc] of the default registry.
func NewUntypedFunc(name, help string, o *UntypedOptions, f func() (float64, error)) (remove func()) {
	return Default().NewUntypedFunc(name, help, o, f)
}
