package expo

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/labeltext"
)

// Escaping says how names are shown that do not match the classic pattern, which is
// [a-zA-Z_:][a-zA-Z0-9_:]* for metrics and the same without colons for labels. See
// https://prometheus.io/docs/instrumenting/escaping_schemes/.
type Escaping uint8

// Escapings. Only Values is reversible, but scrapers ask for others, too.
const (
	Underscores Escaping = iota // an underscore for each invalid character
	AllowUTF8                   // unchanged names, quoted where necessary
	// _dot_ for a dot, two underscores for an underscore or any other invalid character
	Dots
	Values // U__ before the name, and the code point between underscores
)

// String returns the escaping's name in Accept and Content-Type headers.
func (e Escaping) String() string {
	names := [...]string{"underscores", "allow-utf-8", "dots", "values"}
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("escaping(%d)", uint8(e))
}

// MetricName returns a metric's name in this escaping.
func (e Escaping) MetricName(name string) string {
	if e == AllowUTF8 || e != Dots && classic(name, true) {
		return name
	}
	return string(e.append(nil, name, true))
}

// LabelName returns a label's name in this escaping.
func (e Escaping) LabelName(name string) string {
	if e == AllowUTF8 || e != Dots && classic(name, false) {
		return name
	}
	return string(e.append(nil, name, false))
}

// append appends a name that is not AllowUTF8.
func (e Escaping) append(dst []byte, name string, metric bool) []byte {
	if e != Dots {
		if classic(name, metric) {
			return append(dst, name...)
		}
		if e == Values {
			dst = append(dst, "U__"...)
		}
	}
	for i, r := range name {
		fits := r < utf8.RuneSelf && isClassic(byte(r), i > 0, metric)
		switch {
		case r == '_' && e != Underscores:
			dst = append(dst, "__"...)
		case fits:
			dst = append(dst, byte(r))
		case r == '.' && e == Dots:
			dst = append(dst, "_dot_"...)
		case e == Dots:
			dst = append(dst, "__"...)
		case e == Values:
			dst = append(dst, '_')
			dst = strconv.AppendInt(dst, int64(r), 16)
			dst = append(dst, '_')
		default:
			dst = append(dst, '_')
		}
	}
	return dst
}

// classic reports whether a name matches the classic pattern.
func classic(name string, metric bool) bool {
	for i := range len(name) {
		if !isClassic(name[i], i > 0, metric) {
			return false
		}
	}
	return name != ""
}

func isClassic(c byte, digits, colons bool) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= '0' && c <= '9' && digits || c == ':' && colons
}

// names is shared by all encoders: the family, and how its names are written.
type names struct {
	escaping Escaping
	family   *Family
	name     string // as written on the page, without quotes
	quoted   bool   // the name is written between the braces
	verbatim bool   // label texts are written unchanged
}

func (n *names) set(f *Family) {
	n.family = f
	n.name = n.escaping.MetricName(f.Name)
	n.quoted = n.escaping == AllowUTF8 && !classic(n.name, true)
	n.verbatim = n.escaping == AllowUTF8 || n.escaping != Dots && f.ClassicLabels
}

// appendName appends the family's name for a comment line.
func (n *names) appendName(dst []byte, name string) []byte {
	if !n.quoted {
		return append(dst, name...)
	}
	dst = append(dst, '"')
	dst = labeltext.Append(dst, name, true)
	return append(dst, '"')
}

// head is a sample's name up to the beginning of its labels, created once for all series of a
// family.
type head []byte

// set creates the head of samples with this name and suffix.
func (h *head) set(n *names, name, suffix string) {
	b := (*h)[:0]
	if n.quoted {
		b = append(b, `{"`...)
		b = labeltext.Append(b, name, true)
		b = append(b, suffix...)
		*h = append(b, `",`...)
		return
	}
	b = append(append(b, name...), suffix...)
	*h = append(b, '{')
}

// tail ends the labels of samples without a boundLabel.
var tail = []byte("} ")

// appendSeries appends a sample's head, its labels and a tail: that or a boundLabel.
func (n *names) appendSeries(dst []byte, h head, labels string, tail []byte) []byte {
	if n.verbatim && labels != "" { // the common case
		dst = append(append(dst, h...), labels...)
		return append(dst, tail...)
	}
	if labels == "" && !n.quoted && tail[0] == '}' { // without braces
		return append(append(dst, h[:len(h)-1]...), ' ')
	}
	dst, first := n.open(dst, h, labels)
	return append(dst, tail[first:]...)
}

// open appends a sample's head and its labels, and returns where the boundLabel begins that comes
// behind them.
func (n *names) open(dst []byte, h head, labels string) (after []byte, first int) {
	switch {
	case labels == "" && n.quoted:
		return append(dst, h[:len(h)-1]...), 0 // needs no comma
	case labels == "":
		return append(dst, h...), 1 // needs no comma
	case n.verbatim:
		return append(append(dst, h...), labels...), 0
	}
	return n.appendLabels(append(dst, h...), labels), 0
}

// appendLabels appends a label text with its names escaped.
func (n *names) appendLabels(dst []byte, labels string) []byte {
	if n.escaping == AllowUTF8 || n.escaping != Dots && !mayQuote(labels) {
		return append(dst, labels...)
	}
	for first := true; labels != ""; first = false {
		var name, value string
		var ok bool
		if name, value, labels, ok = labeltext.Cut(labels); !ok {
			return dst
		}
		if !first {
			dst = append(dst, ',')
		}
		dst = n.escaping.append(dst, name, false)
		dst = append(dst, `="`...)
		dst = append(dst, value...)
		dst = append(dst, '"')
	}
	return dst
}

// mayQuote reports whether a label text may contain a quoted name. False positives are values that
// end in a comma.
func mayQuote(labels string) bool {
	return labels != "" && labels[0] == '"' || strings.Contains(labels, `,"`)
}
