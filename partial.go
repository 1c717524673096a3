package gotheus

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// fixedValue is the value of a label that With does not take; normalised.
type fixedValue struct {
	value   string
	set     bool
	partial bool // by Partial, not by Defaults
}

// check returns an error that wraps ErrInvalid if c does not fit an instrument with these labels.
func (c common) check(name string, labels []string) error {
	for _, l := range sortedKeys(c.defaults) {
		switch {
		case !slices.Contains(labels, l):
			return fmt.Errorf("%w: %s: Defaults: it has no label %q, only %q", ErrInvalid, name, l, labels)
		case !utf8.ValidString(c.defaults[l]):
			return fmt.Errorf("%w: %s: Defaults: value %q of label %q is not UTF-8", ErrInvalid, name, c.defaults[l], l)
		}
	}
	for _, l := range sortedKeys(c.normalize) {
		switch {
		case !slices.Contains(labels, l):
			return fmt.Errorf("%w: %s: Normalize: it has no label %q, only %q", ErrInvalid, name, l, labels)
		case c.normalize[l] == nil:
			return fmt.Errorf("%w: %s: Normalize: the function of label %q is nil", ErrInvalid, name, l)
		}
	}
	return nil
}

// Partial returns a Vec of the same family in which the labels of l have these values, so that With
// no longer takes them. It can be applied again, to any depth: a value given later takes the place
// of an earlier one or of a default. It is cheap and makes no series. It panics with an error that
// wraps ErrLabels for a name that is no label or a value that is not UTF-8; see TryPartial.
func (v *Vec[M]) Partial(l Labels) *Vec[M] { return Must(v.TryPartial(l)) }

// TryPartial is Partial with an error in place of the panic.
func (v *Vec[M]) TryPartial(l Labels) (*Vec[M], error) {
	p := *v
	p.fixed = slices.Clone(v.fixed)
	if err := p.fix(l, true); err != nil {
		return nil, err
	}
	p.planLookups()
	return &p, nil
}

// fix sets the values of labels that With is not to take.
func (v *Vec[M]) fix(l Labels, partial bool) error {
	if wrong := v.unknown(l); wrong != nil {
		return v.wrong(wrong)
	}
	for i, name := range v.names {
		if value, ok := l[name]; ok {
			at := v.order[i]
			value = strings.Clone(v.normalizeClone(at, value))
			if !utf8.ValidString(value) {
				return fmt.Errorf("%w: %s: value %q of label %q is not UTF-8", ErrLabels, v.fam.Def.Name, value, name)
			}
			v.fixed[at] = fixedValue{value, true, partial}
		}
	}
	return nil
}

// fixedValues returns values for all labels, with the fixed ones filled in.
func (v *Vec[M]) fixedValues() []string {
	full := make([]string, len(v.fixed))
	for i := range v.fixed {
		full[i] = v.fixed[i].value
	}
	return full
}

// complete returns the values of all labels in the family's order: clones of those in l, normalised,
// and for the others the fixed ones. Whatever takes label sets by name is to use it, so that all mean
// the same series.
func (v *Vec[M]) complete(l Labels) []string {
	full := v.fixedValues()
	for i, name := range v.names {
		if value, ok := l[name]; ok {
			full[v.order[i]] = v.normalizeClone(v.order[i], value)
		}
	}
	return full
}

// Declare makes the series of these label sets, which are given as for WithLabels, so that they are
// shown at zero before anything happened. They do not count for MaxSeries. It returns v, and panics
// as WithLabels does, having made none; see TryDeclare.
func (v *Vec[M]) Declare(sets ...Labels) *Vec[M] {
	if err := v.TryDeclare(sets...); err != nil {
		panic(err)
	}
	return v
}

// TryDeclare is Declare with an error in place of the panic.
func (v *Vec[M]) TryDeclare(sets ...Labels) error {
	all := make([][]string, len(sets))
	for i, l := range sets {
		if !v.accepts(l) {
			return v.wrongNames(l)
		}
		all[i] = v.complete(l)
		if err := v.checkValues(all[i]); err != nil {
			return err
		}
	}
	v.table.Pin(all)
	return nil
}

// OneOf returns a function for CounterOptions.Normalize that leaves values as they are and turns every other
// one into "other". It does not allocate. It keeps clones of values.
func OneOf(values ...string) func(string) string {
	values = cloneAll(values)
	if len(values) <= 8 {
		return func(s string) string {
			for _, v := range values {
				if v == s {
					return v
				}
			}
			return otherValue
		}
	}
	set := make(map[string]string, len(values))
	for _, v := range values {
		set[v] = v
	}
	return func(s string) string {
		if v, ok := set[s]; ok {
			return v
		}
		return otherValue
	}
}

const otherValue = "other"

// normalize returns what the label's normaliser makes of value.
func (v *Vec[M]) normalize(a *arena, at int, value string) string {
	if v.normal == nil || v.normal[at] == nil {
		return value
	}
	return v.normal[at](a.clone(value))
}

// normalizeClone is normalize where it does not matter that the value is cloned.
func (v *Vec[M]) normalizeClone(at int, value string) string {
	clone := strings.Clone(value)
	if v.normal == nil || v.normal[at] == nil {
		return clone
	}
	return v.normal[at](clone)
}

// arena clones strings for functions that might keep them. Otherwise the compiler had to assume that
// whatever is passed to With may be kept, and callers that make a string from bytes had to allocate it
// even where there is no normaliser. Space is allocated for many strings at once and not used again.
type arena struct{ b *strings.Builder }

const arenaSize = 8 << 10

var arenas = sync.Pool{New: func() any { return new(arena) }}

func borrow() *arena { return arenas.Get().(*arena) }

func giveBack(a *arena) { arenas.Put(a) }

func (a *arena) clone(s string) string {
	if len(s) > arenaSize/16 {
		return strings.Clone(s)
	}
	if a.b == nil || a.b.Cap()-a.b.Len() < len(s) {
		a.b = new(strings.Builder)
		a.b.Grow(arenaSize)
	}
	from := a.b.Len()
	a.b.WriteString(s)
	return a.b.String()[from:]
}
