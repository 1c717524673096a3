// Package textmap holds a map with label texts as keys, for very many series that come and go.
package textmap

import (
	"hash/maphash"
	"iter"
	"maps"
)

// Map is a map with texts as keys. A Go map never gives memory back. This one consists of small
// ones, each of which is replaced when little of it is left, so its memory follows what it holds,
// and no call takes long. The zero value is empty and ready.
type Map[V any] struct {
	parts []part[V] // 0, 1 or many
	n     int
}

type part[V any] struct {
	m    map[string]V
	most int // size that m has had
}

const (
	many   = 256
	few    = 2048 // up to so many texts are in one part
	sparse = 8    // a part that never had more is not replaced
)

var seed = maphash.MakeSeed()

// Len returns the number of texts.
func (t *Map[V]) Len() int { return t.n }

func (t *Map[V]) part(text string) *part[V] {
	switch len(t.parts) {
	case 0:
		return nil
	case 1:
		return &t.parts[0]
	}
	return &t.parts[maphash.String(seed, text)%many]
}

// Get returns the value of a text, or the zero value.
func (t *Map[V]) Get(text string) (v V) {
	if p := t.part(text); p != nil {
		return p.m[text]
	}
	return v
}

// Set sets the value of a text.
func (t *Map[V]) Set(text string, v V) {
	if t.parts == nil {
		t.parts = make([]part[V], 1)
	}
	if len(t.parts) == 1 && t.n > few {
		old := t.parts[0].m
		t.parts, t.n = make([]part[V], many), 0
		for text, v := range old {
			t.put(text, v)
		}
	}
	t.put(text, v)
}

func (t *Map[V]) put(text string, v V) {
	p := t.part(text)
	if p.m == nil {
		p.m = make(map[string]V)
	}
	before := len(p.m)
	p.m[text] = v
	t.n += len(p.m) - before
	p.most = max(p.most, len(p.m))
}

// Delete removes a text.
func (t *Map[V]) Delete(text string) {
	p := t.part(text)
	if p == nil {
		return
	}
	before := len(p.m)
	delete(p.m, text)
	t.n -= before - len(p.m)
	if t.n == 0 {
		t.parts = nil
		return
	}
	if n := len(p.m); p.most > sparse && n < p.most/4 {
		m := make(map[string]V, n)
		maps.Copy(m, p.m)
		p.m, p.most = m, n
	}
}

// All ranges over all texts. The map may change meanwhile: what is added may be missed, and what
// was removed may still be yielded.
func (t *Map[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		parts := t.parts
		for i := range parts {
			for text, v := range parts[i].m {
				if !yield(text, v) {
					return
				}
			}
		}
	}
}
