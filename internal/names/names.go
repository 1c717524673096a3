// Package names says which names a family takes up on a page. Parsers reject pages on which two
// families show the same name.
package names

import (
	"slices"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Suffixes is the set of suffixes that a family's samples add to its stem, in any format.
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

// Stem returns the name that OpenMetrics has for a family, without _total and _info, and the
// suffixes of its samples.
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

// Taken returns the names that a family takes up on pages of any format. Names that are equal once
// escaped with underscores count as the same.
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

// Shown holds the stems of the families on a page, with their suffixes. No suffix ends in another
// one.
type Shown map[string]Suffixes

// Clash returns the stem of a family on the page that shares a name with the given one; "" if there
// is none. It uses buf as scratch space.
func (m Shown) Clash(stem string, s Suffixes, buf []byte) string {
	if _, ok := m[stem]; ok {
		return stem
	}
	for i, suffix := range suffixTexts {
		if base, ok := strings.CutSuffix(stem, suffix); ok && m[base]>>i&1 != 0 {
			return base
		}
		if s>>i&1 != 0 {
			buf = append(append(buf[:0], stem...), suffix...)
			if _, ok := m[string(buf)]; ok { // this conversion does not allocate
				return string(buf)
			}
		}
	}
	return ""
}

// Selects reports whether the names in asked select a family: by its name, by that of one of its
// samples, or by either as a page with this escaping shows it. No names select all families.
func Selects(asked []string, e expo.Escaping, t expo.Type, name string) bool {
	return len(asked) == 0 || slices.ContainsFunc(asked, func(one string) bool { return Means(one, e, t, name) })
}

// Means is Selects for one name.
func Means(asked string, e expo.Escaping, t expo.Type, name string) bool {
	for _, name := range []string{name, e.MetricName(name), expo.Underscores.MetricName(name)} {
		if asked == name {
			return true
		}
		stem, s := Stem(t, name)
		if rest, ok := strings.CutPrefix(asked, stem); ok {
			if i := slices.Index(suffixTexts[:], rest); rest == "" || i >= 0 && s>>i&1 != 0 {
				return true
			}
		}
	}
	return false
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

// Escaped returns label names as a page shows them, sorted and joined into one text. If one of them
// would occur twice, or is __name__, it returns that one as clash.
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

// types pairs the kinds of families with the types that pages show.
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

// KindOf is the reverse of TypeOf.
func KindOf(t expo.Type) backend.Kind {
	for _, pair := range types {
		if pair.typ == t {
			return pair.kind
		}
	}
	return backend.Untyped
}
