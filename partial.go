package gotheus

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// fixed is the value of a label that With does not take; normalised.
type fixed struct {
	value string
	set   bool
	given bool // by Partial, not by Defaults
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

// settle derives the fields that depend on which labels are fixed.
func (v *Vec[M]) settle() {
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

// start returns values for all labels, with the fixed ones filled in.
func (v *Vec[M]) start() []string {
	full := make([]string, len(v.fixed))
	for i := range v.fixed {
		full[i] = v.fixed[i].value
	}
	return full
}

// fits reports whether l has a value for all open labels, and no name that is none of v's.
func (v *Vec[M]) fits(l Labels) bool {
	given := 0
	for i, name := range v.names {
		if _, ok := l[name]; ok {
			given++
		} else if !v.fixed[v.order[i]].set {
			return false
		}
	}
	return given == len(l)
}

// complete returns the values of all labels in the family's order: clones of those in l,
// normalised, and for the others the fixed ones. Whatever takes label sets by name is to use it, so
// that all mean the same series.
func (v *Vec[M]) complete(l Labels) []string {
	full := v.start()
	for i, name := range v.names {
		if value, ok := l[name]; ok {
			full[v.order[i]] = v.normalizeClone(v.order[i], value)
		}
	}
	return full
}

// OneOf returns a function for CounterOptions.Normalize that leaves values as they are and turns
// every other one into "other". It does not allocate. It keeps clones of values.
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

// arena clones strings for functions that might keep them. Otherwise the compiler had to assume
// that whatever is passed to With may be kept, and callers that make a string from bytes had to
// allocate it even where there is no normaliser. Space is allocated for many strings at once and
// not used again.
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
