package lookup

import (
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/labeltext"
)

// Text is the template of a family's label texts, which label values fill.
type Text struct {
	gaps []string // the text before, between and after the values
	size int      // of all gaps, in bytes
}

// TextOf returns the template for labels in ascending order. Labels in constant have that value;
// the others take the values that are passed to Write.
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

// Exceeds reports whether Write would return more than most bytes.
func (t *Text) Exceeds(values []string, most int) bool {
	size := t.size
	for _, v := range values {
		size += len(v)
	}
	if size > most || 2*size <= most { // escaping doubles the length at most
		return size > most
	}
	return size+specials(values) > most
}

// specials returns the number of bytes that escaping adds to values.
func specials(values []string) (n int) {
	for _, v := range values {
		for i := range len(v) {
			if labeltext.IsSpecial(v[i]) {
				n++
			}
		}
	}
	return n
}

// Write returns the label text of the series with these values. It does not retain the slice.
func (t *Text) Write(values []string) string {
	size, specials := t.size, specials(values)
	for _, v := range values {
		size += len(v)
	}
	var b strings.Builder
	b.Grow(size + specials)
	for i, v := range values {
		b.WriteString(t.gaps[i])
		if specials == 0 {
			b.WriteString(v)
		} else {
			labeltext.Write(&b, v)
		}
	}
	b.WriteString(t.gaps[len(values)])
	return b.String()
}

// same reports whether a label text is that of these values. alike says that each value is as long
// as the one that the text was made from, so that bytes can be compared in place unless some were
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
			if labeltext.IsSpecial(c) {
				if rest == "" || rest[0] != '\\' {
					return false
				}
				rest, c = rest[1:], labeltext.Escaped(c)
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
