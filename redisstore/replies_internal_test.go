package redisstore

import (
	"strings"
	"testing"
)

// However an answer is cut into pieces, its end is found.
func TestAnswer(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"+OK\r\n", "-ERR wrong\r\n", ":5\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n",
		"$0\r\n\r\n", "$-1\r\n", "$5\r\na\r\nb*\r\n", "=6\r\ntxt:ab\r\n", "!3\r\nERR\r\n",
		"*0\r\n", "*-1\r\n", "*2\r\n*1\r\n$1\r\n*\r\n:1\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n", "~1\r\n:1\r\n",
		">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", "|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n", "|0\r\n:1\r\n",
		"+" + strings.Repeat("x", maxLine-3) + "\r\n",
	} {
		for step := 1; step <= len(text); step = step*2 + 1 {
			var a answer
			for rest := text; rest != ""; {
				n := min(step, len(rest))
				if what := a.look([]byte(rest[:n])); what != "" {
					t.Fatalf("%.40q in steps of %d: %s", text, step, what)
				}
				if rest = rest[n:]; rest != "" && len(a.open) == 0 && a.rest == 0 && a.length == 0 && !strings.HasPrefix(text, "|0") {
					t.Fatalf("%.40q in steps of %d: it ends before %.20q", text, step, rest)
				}
			}
			if len(a.open) > 0 || a.rest > 0 || a.length > 0 {
				t.Errorf("%.40q in steps of %d: it does not end: %+v", text, step, a)
			}
		}
	}
}

// Answers to one request are limited together; those to the next one are counted anew.
func TestAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	push := []byte(">2\r\n+message\r\n$1000000\r\n" + strings.Repeat("x", 1_000_000) + "\r\n")
	small := []byte(strings.Repeat(">2\r\n+a\r\n+b\r\n", 10_000))
	for _, c := range []struct {
		answer []byte
		want   string
		most   int
	}{{push, "more than 256 MiB", maxAnswer / len(push)}, {small, "more than 4194304 values", maxElements / 20_000}} {
		var a answer
		n, what := 0, ""
		for ; what == "" && n < 10*c.most; n++ {
			what = a.look(c.answer)
		}
		if !strings.Contains(what, c.want) || n != c.most+1 {
			t.Errorf("after %d of at most %d answers: %q", n, c.most, what)
		}
		conn := answerConn{Conn: brokenConn{}, answer: a}
		conn.Write(nil)
		if what := conn.answer.look(c.answer); what != "" {
			t.Errorf("after the next request: %s", what)
		}
	}
}
