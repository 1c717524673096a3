package gotheus

import (
	"slices"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// What families show on pages: two that show the same name make a page that parsers reject.

// suffixes are what a family puts behind its stem in the names of its samples, in whichever format.
type suffixes uint8

const (
	total suffixes = 1 << iota
	created
	bucket
	sum
	count
	info
)

var suffixNames = [...]string{"_total", "_created", "_bucket", "_sum", "_count", "_info"}

// stemOf returns what a family is called in OpenMetrics, which takes _total and _info off, and the suffixes
// of its samples.
func stemOf(t expo.Type, name string) (string, suffixes) {
	switch t {
	case expo.Counter:
		return strings.TrimSuffix(name, "_total"), total | created
	case expo.Histogram:
		return name, bucket | sum | count | created
	case expo.Summary:
		return name, sum | count | created
	case expo.Info:
		return strings.TrimSuffix(name, "_info"), info
	}
	return name, 0
}

// claimsOf returns the names that a family takes up on pages of any format. Names that differ only in
// characters that become underscores for most scrapers are the same.
func claimsOf(f *backend.Family) []string {
	stem, s := stemOf(typeOf(f.Kind), expo.Underscores.MetricName(f.Name))
	list := []string{stem}
	for i, suffix := range suffixNames {
		if s>>i&1 != 0 {
			list = append(list, stem+suffix)
		}
	}
	return list
}

// shown holds the stems of the families of a page, with their suffixes. No suffix ends in another one.
type shown map[string]suffixes

// clash returns the stem of a family that shows a name that this one shows, too; "" if there is none.
func (m shown) clash(stem string, s suffixes, buf []byte) string {
	if _, ok := m[stem]; ok {
		return stem
	}
	for i, suffix := range suffixNames {
		if base, ok := strings.CutSuffix(stem, suffix); ok && m[base]>>i&1 != 0 {
			return base
		}
		if s>>i&1 != 0 {
			buf = append(append(buf[:0], stem...), suffix...)
			if _, ok := m[string(buf)]; ok { // allocates nothing
				return string(buf)
			}
		}
	}
	return ""
}

// wants reports whether a family is among those that are asked for: by its name, that of one of its
// samples, or either as the page shows it.
func (o *WriteOptions) wants(t expo.Type, name string) bool {
	if len(o.Names) == 0 {
		return true
	}
	return slices.ContainsFunc(o.Names, func(asked string) bool { return o.means(asked, t, name) })
}

func (o *WriteOptions) means(asked string, t expo.Type, name string) bool {
	for _, name := range []string{name, o.Format.NameEscaping().MetricName(name), expo.Underscores.MetricName(name)} {
		if asked == name {
			return true
		}
		stem, s := stemOf(t, name)
		if rest, ok := strings.CutPrefix(asked, stem); ok {
			if i := slices.Index(suffixNames[:], rest); rest == "" || i >= 0 && s>>i&1 != 0 {
				return true
			}
		}
	}
	return false
}

// classicLabels reports whether no label name needs escaping.
func classicLabels(names []string) bool {
	for _, l := range names {
		if expo.Underscores.LabelName(l) != l {
			return false
		}
	}
	return true
}

// escapedLabels returns label names as a page shows them, in ascending order; "" and the label that would be
// there twice, or is __name__, if there is one.
func escapedLabels(e expo.Escaping, names []string) (key, clash string) {
	list := make([]string, len(names))
	for i, l := range names {
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
