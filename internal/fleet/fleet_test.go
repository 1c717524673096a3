//go:build linux

package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/needs"
)

// TestMain lets the test binary be a child process.
func TestMain(m *testing.M) {
	if os.Getenv(envWorker) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Each experiment runs with a small size, and finds nothing wrong.
func TestSmall(t *testing.T) {
	t.Parallel()
	_, err := serverProgram()
	needs.Check(t, "redis-server", err, "apt-get install --no-install-recommends redis-server, "+
		"or give the path of another one in GOTHEUS_REDIS_SERVER")
	for _, e := range experiments {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := &options{
				oneshots: 5, idle: sizes{2, 4}, idleGrowth: 10, departures: 6, partial: 1, deletions: 2000, lookups: 500,
				lookupsFor: 200 * time.Millisecond, leftovers: 100, concurrency: 5, pages: sizes{2, 4}, pageSeries: 300, namespaceSize: 0.01,
				partialOnly: regexp.MustCompile("^(b|d|heads / base|iN / N)$"),
				helpers:     2, alive: 500 * time.Millisecond, slow: time.Second, out: &out, stderr: os.Stderr,
			}
			for _, w := range perform(t.Context(), o, e) {
				t.Error(w)
			}
			if strings.Count(out.String(), "\n| ") < 3 {
				t.Errorf("no figures: %s", &out)
			}
			t.Log(out.String())
		})
	}
}

// A page that is wrong is found.
func TestCompare(t *testing.T) {
	t.Parallel()
	have := totals{Ops: 10, Count: 4, Series: 2}
	for want, verdict := range map[totals]string{
		{10, 4, 2}:  "",
		{-1, -1, 2}: "",
		{11, 4, 2}:  "-1",
		{10, 3, 2}:  "+1 observations",
		{10, 4, 3}:  "-1 series",
	} {
		if got := have.compare(want); got != verdict {
			t.Errorf("%v with %v: %q, want %q", have, want, got, verdict)
		}
	}
	before := samples{"a": 1, "b": 2, "c": 3}
	if got := (samples{"a": 1, "b": 1.5, "d": 0}).lower(before); len(got) != 2 {
		t.Errorf("lower and missing samples: %q", got)
	}
}

func TestScanner(t *testing.T) {
	t.Parallel()
	got := make(samples)
	s := &scanner{line: func(sample string, v float64) { got[sample] = v }}
	for _, piece := range []string{"# TYPE fleet_ops_total counter\nfleet_ops_total{a=\"b c\"} 1", "2\nother 3\nfleet_x 0.5\nfleet_y"} {
		if _, err := io.WriteString(s, piece); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 2 || got[`fleet_ops_total{a="b c"}`] != 12 || got["fleet_x"] != .5 || s.err != nil {
		t.Errorf("got %v, %v", got, s.err)
	}
	if io.WriteString(s, " z\n"); s.err == nil {
		t.Error("a sample that is none is accepted")
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for key, kind := range map[string]string{
		"gotheus:{shop}:heads i0123456789abcdef": "heads / iN",
		"gotheus:{shop/3}:b0123456789abcdef 12":  "bN / N",
		"gotheus:{shop}:f ":                      "f",
	} {
		key, field, _ := strings.Cut(key, " ")
		if got := newTarget(key, field); got.kind != kind || got.key != key || got.field != field {
			t.Errorf("%s %s: %+v, want %s", key, field, got, kind)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"nothing":     `"nothing" is no experiment`,
		"-idle 3,2":   "ascending order",
		"-pages 0":    "not a number above zero",
		"-oneshots 0": "sizes must be above zero",
		"-alive 1ms":  "at least 200ms",

		"-namespace-size 0": "-namespace-size must be above zero",
		"-leftovers -1":     "sizes must be above zero",
	} {
		var stderr bytes.Buffer
		if status := command(strings.Fields(args), io.Discard, &stderr); status != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("fleet %s: status %d, %s", args, status, &stderr)
		}
	}
}
