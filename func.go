package gotheus

import (
	"context"
	"fmt"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/collect"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// TryNewFunc defines a metric whose value is what f returns, until remove is called. It is in r, or
// in the default registry if r is nil. Help is required. Where processes share a backend, f is
// called at scrapes of this process and every few seconds ([RegistryOptions.SampleInterval]),
// otherwise only at scrapes; its calls never overlap. If f returns an error, panics or does not
// return before the scrape's deadline, only this metric is affected; that is counted in
// gotheus_collector_errors_total and logged.
//
// For a counter, f returns a count of this process that never goes down. The metric is the total
// over all processes, including those that have ended: the increase of f since its last call is
// added to it. If f returns less than before, it is assumed to have started again from zero, and so
// is a new function under a name that was removed. Flush and Close call f once more; what it counts
// in the last seconds before its process is killed is lost.
//
// For a gauge, f returns the value of this process. The gauge has mode [ModePerProcess], unless the
// options have one other than [ModeShared]. While f fails, the gauge has no value from this
// process.
//
// The error wraps ErrInvalid, for instance if f is nil, or ErrConflict if the name is taken.
func TryNewFunc[M Counter | Gauge](r *Registry, name, help string, o OptionsFor[M], f func() (float64, error)) (remove func(), err error) {
	return newFunc(r, name, help, o, f)
}

// TryNewUntypedFunc is like TryNewFunc, for a value of unknown type, for instance from another
// system. Its mode is [ModePerProcess], like a gauge's.
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
		fam.Given.DefaultMode = true
	}
	if fam, err = r.enter(fam); err != nil {
		return nil, err
	}
	fn := &function[M]{reg: r, vec: &Vec[M]{fam: fam, table: fam.Table().(*series.Table[M])}, f: f}
	entry := &collector{what: "the function of " + fam.Def.Name, perProcess: true, collect: fn.call, store: fn.store, reg: r}
	if fam.Def.Kind != backend.Counter {
		entry.undo = func() { fam.Vanish(func(series.Instrument) bool { return true }) }
		entry.runs.Failed = entry.discard
	}
	stop := r.base().add(entry)
	return sync.OnceFunc(func() { // once: later, the name may belong to another function
		stop()
		fam.SetCalled(false)
	}), nil
}

// function is a metric whose value a function returns.
type function[M Instrument] struct {
	reg    *Registry
	vec    *Vec[M]
	f      func() (float64, error)
	known  *M
	result float64 // the last result of f, for the call of store that follows
	last   float64 // how much of a counter's value has been added
}

func (fn *function[M]) call(context.Context, *Sink) error {
	v, err := fn.f()
	name := fn.vec.fam.Def.Name
	if err == nil && fn.vec.fam.Def.Kind == backend.Counter && !(v >= 0 && word.Finite(v)) {
		err = fmt.Errorf("%s: the value of a counter is %v", name, v)
	}
	if err != nil {
		return &collect.FamilyError{Name: name, Err: err}
	}
	fn.result = v
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
		m.Set(fn.result)
	case *Counter:
		if fn.result < fn.last {
			fn.last = 0
		}
		m.Add(fn.result - fn.last)
		fn.last = fn.result
	}
	return nil
}

// NewCounterFunc defines a counter of r whose value is what f returns, see [TryNewFunc]. Help is
// required. It panics with TryNewFunc's error.
func (r *Registry) NewCounterFunc(name, help string, o *CounterOptions, f func() (float64, error)) (remove func()) {
	return Must(TryNewFunc[Counter](r, name, help, o, f))
}

// NewGaugeFunc defines a gauge of r whose value is what f returns, see [TryNewFunc]. Help is
// required. It panics with TryNewFunc's error.
func (r *Registry) NewGaugeFunc(name, help string, o *GaugeOptions, f func() (float64, error)) (remove func()) {
	return Must(TryNewFunc[Gauge](r, name, help, o, f))
}

// NewUntypedFunc defines a metric of r of unknown type whose value is what f returns, see
// [TryNewUntypedFunc]. Help is required. It panics with TryNewUntypedFunc's error.
func (r *Registry) NewUntypedFunc(name, help string, o *UntypedOptions, f func() (float64, error)) (remove func()) {
	return Must(TryNewUntypedFunc(r, name, help, o, f))
}

// NewCounterFunc calls [Registry.NewCounterFunc] on the default registry.
func NewCounterFunc(name, help string, o *CounterOptions, f func() (float64, error)) (remove func()) {
	return Default().NewCounterFunc(name, help, o, f)
}

// NewGaugeFunc calls [Registry.NewGaugeFunc] on the default registry.
func NewGaugeFunc(name, help string, o *GaugeOptions, f func() (float64, error)) (remove func()) {
	return Default().NewGaugeFunc(name, help, o, f)
}

// NewUntypedFunc calls [Registry.NewUntypedFunc] on the default registry.
func NewUntypedFunc(name, help string, o *UntypedOptions, f func() (float64, error)) (remove func()) {
	return Default().NewUntypedFunc(name, help, o, f)
}
