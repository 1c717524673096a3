// Package names determines which names a family uses on a page. Parsers reject a page on which two
// families use the same name.
package names

import (
	"slices"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Suffixes is the set of suffixes of a family's sample names in any format.
type Suffixes uint8

const (
	totalSuffix Suffixes = 1 << iota
	createdSuffix
	bucketSuffix
	sumSuffix
	countSuffix
	infoSuffix
)

var suffixTexts = [...]string{"_total", "_created", "_bucket", "_sum", "_count", "_info"}

// Stem returns a family's name in OpenMetrics, which omits _total and _info, and the suffixes of
// its samples.
func Stem(t expo.Type, name string) (string, Suffixes) {
	switch t {
	case expo.Counter:
		return strings.TrimSuffix(name, "_total"), totalSuffix | createdSuffix
	case expo.Histogram:
		return name, bucketSuffix | sumSuffix | countSuffix | createdSuffix
	case expo.Summary:
		return name, sumSuffix | countSuffix | createdSuffix
	case expo.Info:
		return strings.TrimSuffix(name, "_info"), infoSuffix
	}
	return name, 0
}

// Taken returns the names that a family uses on pages of any format, escaped: names that differ
// only in characters that escaping replaces with underscores are the same.
func Taken(f *backend.Family) []string {
	stem, s := Stem(TypeOf(f.Kind), expo.Underscores.MetricName(f.Name))
	list := []string{stem}
	for i, suffix := range suffixTexts {
		if s>>i&1 != 0 {
			list = append(list, stem+suffix)
		}
	}
	return list
}

// Shown maps the stems of the families of a page to the families. No suffix ends in another one.
type Shown map[string]Family

// Family is a family on a page.
type Family struct {
	Name     string // as the program gave it
	Suffixes Suffixes
}

// Clash returns the name of a family on the page that uses a name that the given family also uses,
// or "" if there is none. It uses buf as scratch space.
func (m Shown) Clash(stem string, s Suffixes, buf []byte) string {
	if f, ok := m[stem]; ok {
		return f.Name
	}
	for i, suffix := range suffixTexts {
		if base, ok := strings.CutSuffix(stem, suffix); ok {
			if f := m[base]; f.Suffixes>>i&1 != 0 {
				return f.Name
			}
		}
		if s>>i&1 != 0 {
			buf = append(append(buf[:0], stem...), suffix...)
			if f, ok := m[string(buf)]; ok { // this conversion does not allocate
				return f.Name
			}
		}
	}
	return ""
}

// Asked is a set of names that select families: by their names, by the names of their samples, or
// by either as escaped. An empty one selects all families.
type Asked map[string]bool

// Ask returns the set of a list of names.
func Ask(list []string) Asked {
	if len(list) == 0 {
		return nil
	}
	a := make(Asked, len(list))
	for _, name := range list {
		a[name] = true
	}
	return a
}

// Selects reports whether a family is selected. That takes the same time for any number of names.
func (a Asked) Selects(e expo.Escaping, t expo.Type, name string) bool {
	if len(a) == 0 {
		return true
	}
	for range a.selecting(e, t, name) {
		return true
	}
	return false
}

// AllSelect reports whether each name selects one of the families, which each calls yield with.
func (a Asked) AllSelect(e expo.Escaping, each func(yield func(t expo.Type, name string) bool)) bool {
	found := make(map[string]bool)
	for t, name := range each {
		for one := range a.selecting(e, t, name) {
			found[one] = true
		}
		if len(found) == len(a) {
			return true
		}
	}
	return len(found) == len(a)
}

// selecting ranges over the names in a that select a family.
func (a Asked) selecting(e expo.Escaping, t expo.Type, name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var room [128]byte
		buf := room[:0]
		variants := [...]string{name, e.MetricName(name), expo.Underscores.MetricName(name)}
		for i, variant := range variants {
			if slices.Contains(variants[:i], variant) {
				continue
			}
			if a[variant] && !yield(variant) {
				return
			}
			stem, s := Stem(t, variant)
			if stem != variant && a[stem] && !yield(stem) {
				return
			}
			for i, suffix := range suffixTexts {
				if s>>i&1 == 0 {
					continue
				}
				buf = append(append(buf[:0], stem...), suffix...)
				// Only the text of a name that is found is allocated.
				if a[string(buf)] && !yield(string(buf)) {
					return
				}
			}
		}
	}
}

// OfLabels returns the label names of a family's samples. A state set's own name is one of them.
func OfLabels(f *backend.Family) []string {
	if f.Kind == backend.StateSet {
		return append(slices.Clone(f.Labels), f.Name)
	}
	return f.Labels
}

// Classic reports whether no label name needs escaping.
func Classic(labels []string) bool {
	for _, l := range labels {
		if expo.Underscores.LabelName(l) != l {
			return false
		}
	}
	return true
}

// Escaped returns a text that identifies the set of label names as a page shows them. If escaping
// makes two of them equal, or one __name__, it returns that name as clash.
func Escaped(e expo.Escaping, labels []string) (set, clash string) {
	list := make([]string, len(labels))
	for i, l := range labels {
		if list[i] = e.LabelName(l); list[i] == "__name__" {
			return "", l
		}
	}
	slices.Sort(list)
	for i := range list {
		if i > 0 && list[i] == list[i-1] {
			return "", list[i]
		}
	}
	return strings.Join(list, "\xff"), ""
}

// types maps the kinds of families to the types that pages show.
var types = [...]struct {
	kind backend.Kind
	typ  expo.Type
}{
	{backend.Counter, expo.Counter},
	{backend.Gauge, expo.Gauge},
	{backend.Histogram, expo.Histogram},
	{backend.Summary, expo.Summary},
	{backend.Info, expo.Info},
	{backend.StateSet, expo.StateSet},
}

// TypeOf returns the type that pages show for a kind.
func TypeOf(k backend.Kind) expo.Type {
	for _, pair := range types {
		if pair.kind == k {
			return pair.typ
		}
	}
	return expo.Untyped
}

// KindOf is the inverse of TypeOf.
func KindOf(t expo.Type) backend.Kind {
	for _, pair := range types {
		if pair.typ == t {
			return pair.kind
		}
	}
	return backend.Untyped
}
