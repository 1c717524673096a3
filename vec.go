package gotheus

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/lookup"
	"github.com/gotheus/gotheus/internal/series"
)

// ErrLabels is wrapped by errors about labels: a look-up with a wrong number of values or an
// unknown name, and a value that the program declares, or states as a fact of an Info, that is too
// long or not UTF-8. No value makes a look-up fail.
var ErrLabels = errors.New("gotheus: wrong labels")

// Vec is a family with labels. It is not updated itself: With returns the instrument for a set of
// label values. Looking up a set that was seen before takes no lock and allocates nothing; the
// instrument can also be kept. A series exists, at zero, from its first look-up on, or from when it
// is declared. All methods may be called concurrently, and none keeps the strings passed to it.
//
// A label is open if look-ups have to provide its value. A label with a default
// (CounterOptions.Defaults) or a value from Partial is not open, but WithLabels can still set it.
// Values go through the label's normaliser (CounterOptions.Normalize) first. Equal sets of values
// are the same series, however they came about.
//
// Values may come from anyone, such as clients: no value makes a look-up fail. In a value that is
// not UTF-8, U+FFFD replaces each run of bytes that are not; that is counted in
// gotheus_replaced_values_total. A value of more than CounterOptions.MaxValueLength bytes gets the
// overflow series.
//
// Look-ups create at most CounterOptions.MaxSeries series in a family, together with those of other
// processes that share the backend. After that, looking up a new set returns the overflow series,
// whose labels all have the value OverflowValue. That costs about as much as any other look-up, and
// is counted in gotheus_overflowed_lookups_total. So is a look-up with a value that is too long, or
// whose label text, with all names and constant labels, has more than 64 KiB.
type Vec[M Instrument] struct {
	fam   *series.Family
	table *series.Table[M]
	names []string // of all labels, in the order of their declaration
	order []int    // the position of each name in the family's order

	fast   int                   // number of values, if With can use them unchanged; or -1
	open   []int                 // positions in the family's order of With's values
	fixed  []fixedValue          // values of the other labels, in the family's order
	normal []func(string) string // normalisers, in the family's order; nil if there are none
}

func newVec[M Instrument](f *series.Family, c common, names []string) (*Vec[M], error) {
	v := &Vec[M]{fam: f, table: f.Table().(*series.Table[M]), names: backend.CloneAll(names), order: make([]int, len(names)), fixed: make([]fixedValue, len(names))}
	_, place := backend.SortLabels(v.names)
	for sorted, declared := range place {
		v.order[declared] = sorted
	}
	if len(c.normalize) > 0 {
		v.normal = make([]func(string) string, len(names))
		for name, normal := range c.normalize {
			v.normal[v.position(name)] = contained(f, name, normal)
		}
	}
	if err := v.fix(c.defaults, false); err != nil {
		return nil, fmt.Errorf("%w: Defaults: %w", ErrInvalid, err)
	}
	v.planLookups()
	return v, nil
}

// position returns the index of a label in the family's order, or -1.
func (v *Vec[M]) position(name string) int {
	if i := slices.Index(v.names, name); i >= 0 {
		return v.order[i]
	}
	return -1
}

// With returns the instrument for these label values: one for each open label, in the order in
// which the labels were declared. It panics with an error that wraps ErrLabels if their number is
// wrong, see TryWith, and never because of a value.
func (v *Vec[M]) With(values ...string) *M {
	if len(values) == v.fast {
		var e *lookup.Entry[M]
		if len(values) == 2 {
			e = v.table.Find2(values[0], values[1])
		} else {
			e = v.table.Find(values)
		}
		if e != nil {
			return &e.M
		}
	}
	return Must(v.with(values))
}

// TryWith is like With, but returns the error instead of panicking.
func (v *Vec[M]) TryWith(values ...string) (*M, error) {
	if len(values) == v.fast {
		if e := v.table.Find(values); e != nil {
			return &e.M, nil
		}
	}
	return v.with(values)
}

// with is TryWith without the fast path.
func (v *Vec[M]) with(values []string) (*M, error) {
	if len(values) != len(v.open) {
		return nil, v.wrongNumber(values)
	}
	if v.fast >= 0 {
		return v.lookUp(values), nil
	}
	var buf [stackLabels]string
	n := len(v.fixed)
	if n > stackLabels {
		return v.withMany(values)
	}
	for i := range v.fixed {
		buf[i] = v.fixed[i].value
	}
	if v.normal == nil {
		for i, at := range v.open {
			buf[at] = values[i]
		}
		return v.lookUp(buf[:n]), nil
	}
	a := borrowArena()
	for i, at := range v.open {
		buf[at] = v.normalize(a, at, values[i])
	}
	m := v.lookUp(buf[:n])
	returnArena(a)
	return m, nil
}

// stackLabels is the number of labels up to which look-ups off the fast path do not allocate. They
// use an array because escape analysis would assume that a slice keeps the arguments of With.
const stackLabels = 8

func (v *Vec[M]) withMany(values []string) (*M, error) {
	full := v.fixedValues()
	for i, at := range v.open {
		full[at] = v.normalizeClone(at, values[i])
	}
	return v.lookUp(full), nil
}

// WithLabels returns the instrument for label values by name, which may include labels that are not
// open. It panics with an error that wraps ErrLabels if an open label is missing or a name is not a
// label of v; see TryWithLabels.
func (v *Vec[M]) WithLabels(l Labels) *M { return Must(v.TryWithLabels(l)) }

// TryWithLabels is like WithLabels, but returns the error instead of panicking.
func (v *Vec[M]) TryWithLabels(l Labels) (*M, error) {
	if len(v.names) > stackLabels {
		if !v.accepts(l) {
			return nil, v.wrongNames(l)
		}
		return v.lookUp(v.complete(l)), nil
	}
	var a *arena
	if v.normal != nil {
		a = borrowArena()
	}
	var buf [stackLabels]string
	found := 0
	for i, name := range v.names {
		at := v.order[i]
		if value, ok := l[name]; ok {
			buf[at] = v.normalize(a, at, value)
			found++
		} else if v.fixed[at].set {
			buf[at] = v.fixed[at].value
		} else {
			return nil, v.wrongNames(l)
		}
	}
	if found != len(l) {
		return nil, v.wrongNames(l)
	}
	m := v.lookUp(buf[:len(v.names)])
	if a != nil {
		returnArena(a)
	}
	return m, nil
}

// Declare creates the series for these label sets, each as for WithLabels, so that they are exposed
// at zero before anything happens. They do not count towards MaxSeries, and a time to live does not
// remove them. It returns v. It panics as WithLabels does, and if a value is too long or not UTF-8,
// before it has created any; see TryDeclare.
func (v *Vec[M]) Declare(sets ...Labels) *Vec[M] {
	if err := v.TryDeclare(sets...); err != nil {
		panic(err)
	}
	return v
}

// TryDeclare is like Declare, but returns the error instead of panicking.
func (v *Vec[M]) TryDeclare(sets ...Labels) error {
	all := make([][]string, len(sets))
	for i, l := range sets {
		if !v.accepts(l) {
			return v.wrongNames(l)
		}
		all[i] = v.complete(l)
		if err := v.checkDeclared(all[i]); err != nil {
			return err
		}
	}
	v.table.Pin(all)
	return nil
}

// lookUp finds or creates the series for normalised values in the family's order. It clones what it
// keeps, so that the arguments can stay on the caller's stack.
func (v *Vec[M]) lookUp(values []string) *M {
	mark := v.table.Mark()
	if e := v.table.Find(values); e != nil {
		return &e.M
	}
	return v.create(values, mark)
}

// create is lookUp after nothing was found. Only here is it looked at whether the values can be
// those of a series.
func (v *Vec[M]) create(values []string, mark series.Mark[M]) *M {
	switch {
	case v.fam.TooLong(values): // first: it looks at nothing but lengths
		return v.table.MakeTooLong(values)
	case !series.Valid(values):
		return v.lookUp(v.fam.Repair(values))
	}
	return v.table.Make(values, mark)
}

// checkDeclared checks values that are declared, which must not end up in another series.
func (v *Vec[M]) checkDeclared(values []string) error {
	if err := v.fam.CheckValues(values); err != nil {
		return fmt.Errorf("%w: %w", ErrLabels, err)
	}
	return nil
}

func (v *Vec[M]) wrongNumber(values []string) error {
	var which string
	if len(v.open) < len(v.names) {
		which = fmt.Sprintf(", of which With takes %q", v.openNames())
	}
	return fmt.Errorf("%w: %s has labels %q%s, but the values given are %q", ErrLabels, v.fam.Def.Name, v.names, which, clipAll(values))
}

func (v *Vec[M]) wrongNames(l Labels) error {
	var wrong []string
	for _, name := range v.openNames() {
		if _, ok := l[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%q is missing", name))
		}
	}
	return v.wrong(append(wrong, v.unknown(l)...))
}

func (v *Vec[M]) unknown(l Labels) (wrong []string) {
	for _, name := range sortedKeys(l) {
		if !slices.Contains(v.names, name) {
			wrong = append(wrong, fmt.Sprintf("%q is not one of them", strings.Clone(backend.Clip(name))))
		}
	}
	return wrong
}

func (v *Vec[M]) wrong(what []string) error {
	return fmt.Errorf("%w: %s has labels %q: %s", ErrLabels, v.fam.Def.Name, v.names, strings.Join(what, ", "))
}

func (v *Vec[M]) openNames() []string {
	names := make([]string, len(v.open))
	for i, at := range v.open {
		names[i] = v.fam.Open[at]
	}
	return names
}

func clipAll(values []string) []string {
	c := make([]string, len(values))
	for i, v := range values {
		c[i] = strings.Clone(backend.Clip(v))
	}
	return c
}

// coreOf converts an instrument for package series: to a distinct type with the same underlying
// struct, so that the methods for series.Instrument are not in the method sets of the exported
// types. Converting a pointer is free.
func coreOf[M Instrument](m *M) series.Instrument {
	switch m := any(m).(type) {
	case *Counter:
		return (*counterCore)(m)
	case *Gauge:
		return (*gaugeCore)(m)
	case *Histogram:
		return (*histogramCore)(m)
	case *Summary:
		return (*summaryCore)(m)
	case *StateSet:
		return (*gaugeCore)(&m.gauge)
	}
	panic("gotheus: an instrument of an unknown type")
}

// labelsOf returns the label text of an instrument. A call through an interface would be slower.
func labelsOf[M Instrument](m *M) string {
	switch m := any(m).(type) {
	case *Counter:
		return m.series.Row.Labels
	case *Histogram:
		return m.series.Row.Labels
	case *Gauge:
		return m.series.Row.Labels
	case *Summary:
		return m.series.Row.Labels
	}
	return coreOf(m).Series().Row.Labels
}
