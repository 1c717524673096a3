package gotheus

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

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
	p.settle()
	return &p, nil
}

// fix sets the values of labels that With is not to take.
func (v *Vec[M]) fix(l Labels, given bool) error {
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
			v.fixed[at] = fixed{value, true, given}
		}
	}
	return nil
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
		if !v.fits(l) {
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
