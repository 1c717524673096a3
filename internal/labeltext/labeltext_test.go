package labeltext

import (
	"strings"
	"testing"
)

func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"", "a", `"`, `\`, "\n", `\n`, `a\"b`, "世\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		var b strings.Builder
		b.WriteByte('"')
		Write(&b, name)
		b.WriteString(`"="`)
		Write(&b, value)
		b.WriteString(`",rest="x"`)
		gotName, escaped, rest, ok := Cut(b.String())
		if !ok || gotName != name || Unescape(escaped) != value || rest != `rest="x"` {
			t.Errorf("%q: name %q, value %q, rest %q, %v", b.String(), gotName, Unescape(escaped), rest, ok)
		}
		if got := string(Append(nil, value, true)); got != escaped {
			t.Errorf("Append wrote %q, Write %q", got, escaped)
		}
	})
}

func TestCutMalformed(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a", `a=`, `a="`, `a="x`, `a="x\"`, `"a`, `"a"`, `"a"x="y"`} {
		if name, value, rest, ok := Cut(text); ok {
			t.Errorf("%q: %q, %q, %q", text, name, value, rest)
		}
	}
}
