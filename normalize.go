package gotheus

import (
	"strings"
	"sync"
)

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
