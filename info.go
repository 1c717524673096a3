package gotheus

import (
	"fmt"
	"sync"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// Info exposes facts about the program, such as its version, as label values of a series whose
// value is 1. The page shows it as long as a live process has set it: while two versions run, it
// shows both. All methods may be called concurrently.
type Info struct {
	vec *Vec[Gauge]

	mu  sync.Mutex
	now *Gauge
}

// TryNewInfo returns an info in r, or in the default registry if r is nil. The name must end in
// _info; help and at least one fact are required. The error wraps ErrInvalid or ErrConflict.
func TryNewInfo(r *Registry, name, help string, facts Labels) (*Info, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return newInfo(orDefault(r), name, help, facts)
}

// NewInfo returns an info of r. It panics with [TryNewInfo]'s error.
func (r *Registry) NewInfo(name, help string, facts Labels) *Info {
	return Must(TryNewInfo(r, name, help, facts))
}

// NewInfo returns an info of the default registry. It panics with [TryNewInfo]'s error.
func NewInfo(name, help string, facts Labels) *Info { return Default().NewInfo(name, help, facts) }

func newInfo(r *Registry, name, help string, facts Labels) (*Info, error) {
	names := sortedKeys(facts)
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: %s: an info needs facts, such as Labels{\"version\": \"1.2\"}", ErrInvalid, r.opts.Prefix+name)
	}
	f, err := prepare[Gauge](r, name, help, &GaugeOptions{MaxSeries: -1, MaxValueLength: -1, TTL: -1}, true, names)
	if err != nil {
		return nil, err
	}
	f.Def.Kind, f.Def.Mode, f.Source = backend.Info, backend.Max, "an info"
	if err := f.Def.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	values := make([]string, len(f.Open))
	for i, name := range f.Open {
		values[i] = facts[name]
	}
	if err := f.CheckValues(values); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if f, err = r.enter(f); err != nil {
		return nil, err
	}
	vec, err := newVec[Gauge](f, common{}, names)
	if err != nil {
		return nil, err
	}
	i := &Info{vec: vec}
	return i, i.TrySet(facts)
}

// Set replaces the facts; their names must be those that the info was made with. It panics with an
// error that wraps ErrLabels if they are not, or if a value is not UTF-8 or too long; see TrySet.
func (i *Info) Set(facts Labels) {
	if err := i.TrySet(facts); err != nil {
		panic(err)
	}
}

// TrySet is like Set, but returns the error instead of panicking.
func (i *Info) TrySet(facts Labels) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.vec.accepts(facts) {
		if err := i.vec.checkDeclared(i.vec.complete(facts)); err != nil {
			return err
		}
	}
	g, err := i.vec.TryWithLabels(facts)
	if err != nil {
		return err
	}
	g.Set(1)
	if old := i.now; old != nil && old.series.Row.Labels != g.series.Row.Labels {
		i.vec.fam.Vanish(func(m series.Instrument) bool { return m.Series().Row.Labels == old.series.Row.Labels })
	}
	i.now = g
	return nil
}
