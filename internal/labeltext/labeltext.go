// Package labeltext reads and writes labels in the form that the text format has between braces:
//
//	method="GET",route="/"
//
// Names that do not match [a-zA-Z_][a-zA-Z0-9_]* are quoted. In values and quoted names, backslash,
// double quote and line feed are escaped.
package labeltext

import "strings"

// IsSpecial reports whether a character must be escaped.
func IsSpecial(c byte) bool { return c == '"' || c == '\\' || c == '\n' }

// Escaped returns the character that follows the backslash in the escape of a special character. It
// returns other characters unchanged.
func Escaped(c byte) byte {
	if c == '\n' {
		return 'n'
	}
	return c
}

// Write writes s, escaped as a label value.
func Write(b *strings.Builder, s string) {
	for {
		i := strings.IndexAny(s, "\\\"\n")
		if i < 0 {
			b.WriteString(s)
			return
		}
		b.WriteString(s[:i])
		b.WriteByte('\\')
		b.WriteByte(Escaped(s[i]))
		s = s[i+1:]
	}
}

// Append appends s with backslashes, line feeds and, if quotes is set, double quotes escaped.
func Append(dst []byte, s string, quotes bool) []byte {
	special := "\\\n"
	if quotes {
		special = "\\\n\""
	}
	for {
		i := strings.IndexAny(s, special)
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(append(dst, s[:i]...), '\\', Escaped(s[i]))
		s = s[i+1:]
	}
}

// Unescape replaces the escapes in s by the characters that they stand for. A backslash before any
// other character is dropped.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return string(AppendUnescaped(make([]byte, 0, len(s)), s))
}

// AppendUnescaped appends s as Unescape returns it.
func AppendUnescaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		if c := s[i+1]; c == 'n' {
			dst = append(dst, '\n')
		} else {
			dst = append(dst, c)
		}
		s = s[i+2:]
	}
}

// Cut splits a label text after the first label. It returns the label's name, its value, which is
// still escaped, and the remaining text. If the text is malformed, ok is false.
func Cut(text string) (name, value, rest string, ok bool) {
	if quoted, isQuoted := strings.CutPrefix(text, `"`); isQuoted {
		end := endOfQuoted(quoted)
		if end < 0 {
			return "", "", "", false
		}
		name = Unescape(quoted[:end])
		if rest, ok = strings.CutPrefix(quoted[end+1:], `="`); !ok {
			return "", "", "", false
		}
	} else if name, rest, ok = strings.Cut(text, `="`); !ok {
		return "", "", "", false
	}
	end := endOfQuoted(rest)
	if end < 0 {
		return "", "", "", false
	}
	return name, rest[:end], strings.TrimPrefix(rest[end+1:], ","), true
}

// endOfQuoted returns the index of the closing quote, or -1 if there is none.
func endOfQuoted(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return -1
}
