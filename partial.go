package gotheus

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// check returns an error that wraps ErrInvalid if c does not fit an instrument with these labels.
func (c common) check(name string, labels []string) error {
	for _, l := range sortedKeys(c.defaults) {
		switch {
		case !slices.Contains(labels, l):
			return fmt.Errorf("%w: %s: Defaults: %q is not one of its labels %q", ErrInvalid, name, l, labels)
		case !utf8.ValidString(c.defaults[l]):
			return fmt.Errorf("%w: %s: Defaults: value %q of label %q is not UTF-8", ErrInvalid, name, c.defaults[l], l)
		}
	}
	for _, l := range sortedKeys(c.normalize) {
		switch {
		case !slices.Contains(labels, l):
			return fmt.Errorf("%w: %s: Normalize: %q is not one of its labels %q", ErrInvalid, name, l, labels)
		case c.normalize[l] == nil:
			return fmt.Errorf("%w: %s: Normalize: the function for label %q is nil", ErrInvalid, name, l)
		}
	}
	return nil
}

// fixedValue is the normalised value of a label that is not open.
type fixedValue struct {
	value   string
	set     bool
	partial bool // it comes from Partial, not from Defaults
}

// Partial returns a Vec of the same family with the values in l filled in, so that With no longer
// takes them. It can be applied repeatedly: a later value replaces an earlier one or a default. It
// is cheap and creates no series. It panics with an error that wraps ErrLabels if a name is not a
// label of v; see TryPartial.
func (v *Vec[M]) Partial(l Labels) *Vec[M] { return Must(v.TryPartial(l)) }

// TryPartial is like Partial, but returns the error instead of panicking.
func (v *Vec[M]) TryPartial(l Labels) (*Vec[M], error) {
	p := *v
	p.fixed = slices.Clone(v.fixed)
	if err := p.fix(l, true); err != nil {
		return nil, err
	}
	p.planLookups()
	return &p, nil
}

// fix fills in the values of labels, so that With no longer takes them. Those of a partial may come
// from anyone, as those of With.
func (v *Vec[M]) fix(l Labels, partial bool) error {
	if wrong := v.unknown(l); wrong != nil {
		return v.wrong(wrong)
	}
	for i, name := range v.names {
		if value, ok := l[name]; ok {
			at := v.order[i]
			value = strings.Clone(v.normalizeClone(at, value))
			if partial {
				value = v.fam.RepairValue(at, value)
			} else if err := v.fam.CheckValue(at, value); err != nil {
				return err
			}
			v.fixed[at] = fixedValue{value, true, partial}
		}
	}
	return nil
}

// planLookups sets the fields that depend on which labels are fixed.
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

// fixedValues returns a new slice with the fixed values, in the family's order; the others are
// empty.
func (v *Vec[M]) fixedValues() []string {
	full := make([]string, len(v.fixed))
	for i := range v.fixed {
		full[i] = v.fixed[i].value
	}
	return full
}

// accepts reports whether l has a value for every open label, and only names of v's labels.
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

// complete returns the values of all labels in the family's order: normalised clones of those in l,
// and the fixed values of the others. Everything that takes label sets by name uses it, so that the
// same set always means the same series.
func (v *Vec[M]) complete(l Labels) []string {
	full := v.fixedValues()
	for i, name := range v.names {
		if value, ok := l[name]; ok {
			full[v.order[i]] = v.normalizeClone(v.order[i], value)
		}
	}
	return full
}

// OneOf returns a function for CounterOptions.Normalize that keeps the given values and turns all
// others into "other". The function does not allocate.
func OneOf(values ...string) func(string) string {
	values = backend.CloneAll(values)
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

// normalize applies the label's normaliser, if it has one.
func (v *Vec[M]) normalize(a *arena, at int, value string) string {
	if v.normal == nil || v.normal[at] == nil {
		return value
	}
	return v.normal[at](a.clone(value))
}

// normalizeClone is normalize off the hot path: it always clones the value.
func (v *Vec[M]) normalizeClone(at int, value string) string {
	clone := strings.Clone(value)
	if v.normal == nil || v.normal[at] == nil {
		return clone
	}
	return v.normal[at](clone)
}

// contained returns a normaliser that returns otherValue if normal panics.
func contained(f *series.Family, label string, normal func(string) string) func(string) string {
	what := fmt.Sprintf("Normalize of label %q of %s", label, f.Def.Name)
	return func(value string) (result string) {
		result = otherValue
		defer f.Home.Contain(what)
		return normal(value)
	}
}

// arena clones strings for functions that might keep them. Without the clone, escape analysis would
// assume that arguments of With are kept, and callers that convert bytes to a string would have to
// allocate it, even without a normaliser. The arena allocates room for many strings at once and
// never reuses it.
type arena struct{ b *strings.Builder }

const arenaSize = 8 << 10

var arenas = sync.Pool{New: func() any { return new(arena) }}

func borrowArena() *arena { return arenas.Get().(*arena) }

func returnArena(a *arena) { arenas.Put(a) }

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
