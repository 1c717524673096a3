package report

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var first, second bytes.Buffer
		l := &Log{Default: slog.New(slog.NewTextHandler(&first, nil))}
		for range 3 {
			l.Log(slog.LevelWarn, "cause", "something failed", "metric", "m")
		}
		l.Log(slog.LevelWarn, "other", "something else failed")
		if n := strings.Count(first.String(), "\n"); n != 2 {
			t.Errorf("%d lines, want one for each cause:\n%s", n, &first)
		}
		l.SetLogger(slog.New(slog.NewTextHandler(&second, nil)))
		time.Sleep(time.Minute)
		l.Log(slog.LevelWarn, "cause", "something failed")
		if out := second.String(); !strings.Contains(out, "gotheus: something failed") || !strings.Contains(out, "suppressed=2") {
			t.Errorf("after a minute: %q", out)
		}
		l.Forget("cause")
		l.Log(slog.LevelWarn, "cause", "something failed anew")
		if out := second.String(); !strings.Contains(out, "anew") {
			t.Errorf("a forgotten cause is suppressed: %q", out)
		}
		second.Reset()
		l.Hold()
		l.Log(slog.LevelWarn, "held", "held back")
		l.Later(slog.LevelInfo, "added")
		if second.Len() > 0 {
			t.Errorf("logged while lines are held: %q", &second)
		}
		l.Release()
		if out := second.String(); !strings.Contains(out, "held back") || !strings.Contains(out, "added") {
			t.Errorf("released: %q", out)
		}
		second.Reset()
		for i := range 2 * maxCauses {
			l.Log(slog.LevelWarn, fmt.Sprint("cause ", i), "one of many")
		}
		if n := strings.Count(second.String(), "\n"); n > maxCauses {
			t.Errorf("%d causes were remembered, at most %d are", n, maxCauses)
		}
		time.Sleep(time.Minute)
		second.Reset()
		l.Log(slog.LevelWarn, "a new cause", "later")
		if second.Len() == 0 {
			t.Error("old causes are not forgotten")
		}
	})
}
