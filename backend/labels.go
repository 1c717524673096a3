package backend

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// LabelText returns the identity of a series: its labels as the text format has them between
// braces, such as
//
//	method="GET",route="/"
//
// with backslash, double quote and line feed of values escaped. values are in the order of
// f.Labels. It is an error if their number differs or one of them is not UTF-8.
func (f *Family) LabelText(values ...string) (string, error) {
	if len(values) != len(f.Labels) {
		return "", fmt.Errorf("%w: %s: %d values for labels %q", ErrFamily, f.Name, len(values), f.Labels)
	}
	size := 0
	for i, v := range values {
		if !utf8.ValidString(v) {
			return "", fmt.Errorf("%w: %s: value %q of label %q is not UTF-8", ErrFamily, f.Name, v, f.Labels[i])
		}
		size += len(f.Labels[i]) + len(v) + len(`="",`)
	}
	var b strings.Builder
	b.Grow(size)
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(f.Labels[i])
		b.WriteString(`="`)
		writeEscaped(&b, v)
		b.WriteByte('"')
	}
	return b.String(), nil
}

// LabelValues is the reverse of LabelText. An error says that text is not a label text of f.
func (f *Family) LabelValues(text string) ([]string, error) {
	values := make([]string, 0, len(f.Labels))
	for _, v := range ParseLabels(text) {
		values = append(values, v)
	}
	// What ParseLabels is lenient about does not come back the same.
	if again, err := f.LabelText(values...); err != nil || again != text {
		return nil, fmt.Errorf("%w: %s: %q is not the text of labels %q", ErrFamily, f.Name, text, f.Labels)
	}
	return values, nil
}

// ParseLabels ranges over names and values of a label text. It ends early if text is none.
func ParseLabels(text string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for text != "" {
			name, rest, ok := strings.Cut(text, `="`)
			if !ok {
				return
			}
			end := 0
			for end < len(rest) && rest[end] != '"' {
				if rest[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(rest) || !yield(name, unescape(rest[:end])) {
				return
			}
			text = strings.TrimPrefix(rest[end+1:], ",")
		}
	}
}

// SortLabels returns the names in ascending order, as Family.Labels has them, and for each of them
// its place in names.
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

func writeEscaped(b *strings.Builder, v string) {
	for {
		i := strings.IndexAny(v, "\\\"\n")
		if i < 0 {
			b.WriteString(v)
			return
		}
		b.WriteString(v[:i])
		if v[i] == '\n' {
			b.WriteString(`\n`)
		} else {
			b.WriteByte('\\')
			b.WriteByte(v[i])
		}
		v = v[i+1:]
	}
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) {
			i++
			if c = s[i]; c == 'n' {
				c = '\n'
			}
		}
		b = append(b, c)
	}
	return string(b)
}
