// Package labeltext reads and writes labels as text: as the text format has them between braces.
//
//	method="GET",route="/"
//
// Backslash, double quote and line feed are escaped in values, and in names, which are quoted if
// they do not match [a-zA-Z_][a-zA-Z0-9_]*.
package labeltext

import "strings"

// IsSpecial reports whether a character is escaped.
func IsSpecial(c byte) bool { return c == '"' || c == '\\' || c == '\n' }

// Escaped returns what follows the backslash for a special character, and other characters as they
// are.
func Escaped(c byte) byte {
	if c == '\n' {
		return 'n'
	}
	return c
}

// Write writes s escaped.
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

// Append appends s with backslash and line feed escaped and, if quotes is set, double quotes, too.
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

// Unescape returns s without escapes. A backslash before any other character stands for nothing.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return string(AppendUnescaped(make([]byte, 0, len(s)), s))
}

// AppendUnescaped appends s without escapes.
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

// Cut splits a label text after the first label. It returns the label's name and its value, which
// is still escaped; false if the text is malformed.
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
