package lookup

import (
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
)

// Text makes the label texts of a family's series from their label values.
type Text struct {
	gaps []string // the text before, between and after the values
	size int      // of all gaps
}

// TextOf returns the Text for labels in ascending order. Those in constant have fixed values; Write
// takes the values of the others.
func TextOf(labels []string, constant map[string]string) *Text {
	t, gap := new(Text), ""
	for _, name := range labels {
		value, ok := constant[name]
		if gap = backend.AppendLabel(gap, name, value); !ok {
			t.add(gap[:len(gap)-1])
			gap = `"`
		}
	}
	t.add(gap)
	return t
}

func (t *Text) add(gap string) {
	t.gaps = append(t.gaps, gap)
	t.size += len(gap)
}

// Write returns the label text of the series with these values. It does not keep them.
func (t *Text) Write(values []string) string {
	size, specials := t.size, 0
	for _, v := range values {
		size += len(v)
		for i := range len(v) {
			if special(v[i]) {
				specials++
			}
		}
	}
	var b strings.Builder
	b.Grow(size + specials)
	for i, v := range values {
		b.WriteString(t.gaps[i])
		if specials == 0 {
			b.WriteString(v)
		} else {
			writeEscaped(&b, v)
		}
	}
	b.WriteString(t.gaps[len(values)])
	return b.String()
}

func special(c byte) bool { return c == '"' || c == '\\' || c == '\n' }

func writeEscaped(b *strings.Builder, v string) {
	for i := range len(v) {
		if special(v[i]) {
			b.WriteByte('\\')
		}
		b.WriteByte(escaped(v[i]))
	}
}

// escaped returns what follows the backslash for a special character.
func escaped(c byte) byte {
	if c == '\n' {
		return 'n'
	}
	return c
}

// same reports whether a label text is that of these values. alike says that they are as long as
// the values that the text was made from: then they can be compared in place, unless some are
// escaped.
func (t *Text) same(text string, values []string, alike bool) bool {
	if !alike {
		return t.sameEscaped(text, values)
	}
	at := 0
	for i, v := range values {
		at += len(t.gaps[i])
		if len(text)-at < len(v) || text[at:at+len(v)] != v {
			return t.sameEscaped(text, values)
		}
		at += len(v)
	}
	return at+len(t.gaps[len(values)]) == len(text) || t.sameEscaped(text, values)
}

func (t *Text) sameEscaped(text string, values []string) bool {
	for i, v := range values {
		rest, ok := strings.CutPrefix(text, t.gaps[i])
		if !ok {
			return false
		}
		for i := range len(v) {
			c := v[i]
			if special(c) {
				if rest == "" || rest[0] != '\\' {
					return false
				}
				rest, c = rest[1:], escaped(c)
			}
			if rest == "" || rest[0] != c {
				return false
			}
			rest = rest[1:]
		}
		text = rest
	}
	return text == t.gaps[len(values)]
}
