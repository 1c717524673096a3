package backend

import (
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/labeltext"
)

// LabelText returns the identity of a series: its labels as in the text format, without the braces,
// such as
//
//	method="GET",route="/"
//
// In values, backslash, double quote and line feed are escaped. Names that do not match
// [a-zA-Z_][a-zA-Z0-9_]* are in double quotes and escaped likewise. values are in the order of
// f.Labels. It returns an error if their number differs or one is not UTF-8.
func (f *Family) LabelText(values ...string) (string, error) {
	if len(values) != len(f.Labels) {
		return "", invalid("%s: values %q for labels %q: there must be one for each", f.Name, values, f.Labels)
	}
	size := 0
	for i, v := range values {
		if !utf8.ValidString(v) {
			return "", invalid("%s: value %q of label %q is not UTF-8", f.Name, v, f.Labels[i])
		}
		size += len(f.Labels[i]) + len(v) + len(`="",`)
		if !classicName(f.Labels[i], false) {
			size += len(`""`)
		}
	}
	var b strings.Builder
	b.Grow(size)
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		writeLabel(&b, f.Labels[i], v)
	}
	return b.String(), nil
}

func writeLabel(b *strings.Builder, name, value string) {
	if classicName(name, false) {
		b.WriteString(name)
	} else {
		b.WriteByte('"')
		labeltext.Write(b, name)
		b.WriteByte('"')
	}
	b.WriteString(`="`)
	labeltext.Write(b, value)
	b.WriteByte('"')
}

// AppendLabel returns text with a label appended.
func AppendLabel(text, name, value string) string {
	var b strings.Builder
	b.Grow(len(text) + len(name) + len(value) + len(`,""="",`))
	if text != "" {
		b.WriteString(text)
		b.WriteByte(',')
	}
	writeLabel(&b, name, value)
	return b.String()
}

// LabelValues is the inverse of LabelText. It returns an error if text is not a label text of f.
func (f *Family) LabelValues(text string) ([]string, error) {
	values := make([]string, 0, len(f.Labels))
	for _, v := range ParseLabels(text) {
		values = append(values, v)
	}
	// ParseLabels is lenient: anything but a canonical text differs when it is written again.
	if again, err := f.LabelText(values...); err != nil || again != text {
		return nil, invalid("%s: %q is not the text of labels %q", f.Name, Clip(text), f.Labels)
	}
	return values, nil
}

// ParseLabels iterates over the names and values of a label text. It stops early if text is
// malformed.
func ParseLabels(text string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for text != "" {
			name, value, rest, ok := labeltext.Cut(text)
			if !ok || !yield(name, labeltext.Unescape(value)) {
				return
			}
			text = rest
		}
	}
}

// CloneAll returns a copy of a list with copies of its texts.
func CloneAll(list []string) []string {
	if list == nil {
		return nil
	}
	c := make([]string, len(list))
	for i, s := range list {
		c[i] = strings.Clone(s)
	}
	return c
}

// CloneLabels returns a copy of a map with copies of its texts.
func CloneLabels[L ~map[string]string](l L) L {
	if l == nil {
		return nil
	}
	c := make(L, len(l))
	for name, value := range l {
		c[strings.Clone(name)] = strings.Clone(value)
	}
	return c
}

// SortLabels returns the names in ascending order, as in Family.Labels, and for each of them its
// index in names.
func SortLabels(names []string) (sorted []string, place []int) {
	place = make([]int, len(names))
	for i := range place {
		place[i] = i
	}
	slices.SortStableFunc(place, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	for _, p := range place {
		sorted = append(sorted, names[p])
	}
	return sorted, place
}
