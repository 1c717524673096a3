package gotheus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/lookup"
	"github.com/gotheus/gotheus/internal/series"
)

// ErrLabels is wrapped by errors about a look-up's labels: their number, a name, a value that is not
// UTF-8.
var ErrLabels = errors.New("gotheus: wrong labels")

// Vec is a family with labels. It cannot be updated itself: With gives the instrument for a set of
// label values. A look-up of a set that was seen before takes no lock and allocates nothing; the
// instrument it returns can also be kept. A set exists, at zero, from its first look-up on, or from the
// moment it is declared. All methods may be called concurrently. Strings passed in are not kept.
//
// A label is open if look-ups have to give its value. It is not if it has a default (CounterOptions.Defaults)
// or a value from Partial; WithLabels can still set it. Values pass the label's normaliser
// (CounterOptions.Normalize) before anything else happens to them. However a set of values was arrived at, it
// is the same series.
//
// A family has at most CounterOptions.MaxSeries series from look-ups. After that, a look-up of a set that was
// not seen before returns the overflow series: all its labels have the value OverflowValue. It costs
// about as much as any other look-up, and is counted in gotheus_overflowed_lookups_total.
type Vec[M Instrument] struct {
	fam   *series.Family
	table *series.Table[M]
	names []string // all, in the order in which they were declared
	order []int    // places of names in the family's order

	fast   int                   // how many values With takes if nothing has to be done to them; or -1
	open   []int                 // places in the family's order of the values that With takes
	fixed  []fixedValue          // values of the others, in the family's order
	normal []func(string) string // in the family's order; nil if there is none
}

func newVec[M Instrument](f *series.Family, c common, names []string) (*Vec[M], error) {
	v := &Vec[M]{fam: f, table: f.Table().(*series.Table[M]), names: cloneAll(names), order: make([]int, len(names)), fixed: make([]fixedValue, len(names))}
	_, place := backend.SortLabels(v.names)
	for sorted, declared := range place {
		v.order[declared] = sorted
	}
	if len(c.normalize) > 0 {
		v.normal = make([]func(string) string, len(names))
		for name, normal := range c.normalize {
			v.normal[v.position(name)] = normal
		}
	}
	if err := v.fix(c.defaults, false); err != nil {
		return nil, fmt.Errorf("%w: Defaults: %w", ErrInvalid, err)
	}
	v.planLookups()
	return v, nil
}

// position returns the place of a label in the family's order, or -1.
func (v *Vec[M]) position(name string) int {
	if i := slices.Index(v.names, name); i >= 0 {
		return v.order[i]
	}
	return -1
}

// planLookups derives the fields that depend on which labels are fixed.
func (v *Vec[M]) planLookups() {
	v.fast, v.open = len(v.names), nil
	for i, at := range v.order {
		if !v.fixed[at].set {
			v.open = append(v.open, at)
		}
		if i != at || v.fixed[at].set || v.normal != nil {
			v.fast = -1
		}
	}
}

// With returns the instrument for one value for each open label, in the order in which the labels were
// declared. It panics with an error that wraps ErrLabels if their number differs or a value is not
// UTF-8; see TryWith.
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

// TryWith is With with an error in place of the panic.
func (v *Vec[M]) TryWith(values ...string) (*M, error) {
	if len(values) == v.fast {
		if e := v.table.Find(values); e != nil {
			return &e.M, nil
		}
	}
	return v.with(values)
}

// with is TryWith without the short cut.
func (v *Vec[M]) with(values []string) (*M, error) {
	if len(values) != len(v.open) {
		return nil, v.wrongNumber(values)
	}
	if v.fast >= 0 {
		return v.lookUp(values)
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
		return v.lookUp(buf[:n])
	}
	a := borrow()
	for i, at := range v.open {
		buf[at] = v.normalize(a, at, values[i])
	}
	m, err := v.lookUp(buf[:n])
	giveBack(a)
	return m, err
}

// stackLabels is the number of labels up to which look-ups that are not of the simplest kind do not allocate.
// The compiler sees that an array does not keep what is passed to With; a slice it believes to do so.
const stackLabels = 8

func (v *Vec[M]) withMany(values []string) (*M, error) {
	full := v.fixedValues()
	for i, at := range v.open {
		full[at] = v.normalizeClone(at, values[i])
	}
	return v.lookUp(full)
}

// WithLabels returns the instrument for label values given by name, of labels that are not open, too. It
// panics with an error that wraps ErrLabels if an open label is missing, for a name that is no label, or if
// a value is not UTF-8; see TryWithLabels.
func (v *Vec[M]) WithLabels(l Labels) *M { return Must(v.TryWithLabels(l)) }

// TryWithLabels is WithLabels with an error in place of the panic.
func (v *Vec[M]) TryWithLabels(l Labels) (*M, error) {
	if len(v.names) > stackLabels {
		if !v.accepts(l) {
			return nil, v.wrongNames(l)
		}
		return v.lookUp(v.complete(l))
	}
	var a *arena
	if v.normal != nil {
		a = borrow()
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
	m, err := v.lookUp(buf[:len(v.names)])
	if a != nil {
		giveBack(a)
	}
	return m, err
}

// accepts reports whether l has a value for all open labels, and no name that is none of v's.
func (v *Vec[M]) accepts(l Labels) bool {
	found := 0
	for i, name := range v.names {
		if _, ok := l[name]; ok {
			found++
		} else if !v.fixed[v.order[i]].set {
			return false
		}
	}
	return found == len(l)
}

// lookUp finds or makes the series for values in the family's order, which are normalised. It clones
// what it keeps and what it reports, so that callers' arguments can stay on their stacks.
func (v *Vec[M]) lookUp(values []string) (*M, error) {
	mark := v.table.Mark()
	if e := v.table.Find(values); e != nil {
		return &e.M, nil
	}
	if err := v.checkValues(values); err != nil {
		return nil, err
	}
	return v.table.Make(values, mark), nil
}

func (v *Vec[M]) checkValues(values []string) error {
	for i, at := range v.order {
		if !utf8.ValidString(values[at]) {
			return fmt.Errorf("%w: %s: value %q of label %q is not UTF-8", ErrLabels, v.fam.Def.Name, strings.Clone(values[at]), v.names[i])
		}
	}
	return nil
}

func (v *Vec[M]) wrongNumber(values []string) error {
	var which string
	if len(v.open) < len(v.names) {
		which = fmt.Sprintf(", values are to be given for %q", v.openNames())
	}
	return fmt.Errorf("%w: %s has labels %q%s: %d values given %q", ErrLabels, v.fam.Def.Name, v.names, which, len(values), cloneAll(values))
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
			wrong = append(wrong, fmt.Sprintf("%q is not one of them", strings.Clone(name)))
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

func cloneAll(values []string) []string {
	c := make([]string, len(values))
	for i, v := range values {
		c[i] = strings.Clone(v)
	}
	return c
}
