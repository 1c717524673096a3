//go:build linux

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/needs"
)

// TestMain lets the test binary be a worker.
func TestMain(m *testing.M) {
	if os.Getenv(envWorker) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

var never = regexp.MustCompile(` 0 (deploys|kills|checks|tenants|scrapes)`)

// A run of seconds on each backend has exact totals through deploys and kills. It is too short for
// a verdict about growth.
func TestSmoke(t *testing.T) {
	for _, backend := range []string{"heap", "shm", "redis"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			if backend == "redis" {
				_, err := exec.LookPath("redis-server")
				if os.Getenv("GOTHEUS_REDIS_SERVER") != "" {
					err = nil
				}
				needs.Check(t, "redis-server", err, "apt-get install --no-install-recommends redis-server, "+
					"or give the path of another one in GOTHEUS_REDIS_SERVER")
			}
			var out bytes.Buffer
			var list []*quantity
			wrong, err := run(t.Context(), &options{
				backend: backend, length: 4 * time.Second, warmUp: time.Hour, every: 400 * time.Millisecond,
				workers: 3, rate: 200, tenants: 20, churn: 3, sessions: 5, deploy: 900 * time.Millisecond, kill: 1100 * time.Millisecond,
				out: &out, progress: os.Stderr, quantitiesForTest: &list,
			})
			if err != nil || len(wrong) > 0 {
				t.Fatalf("%v: %q", err, wrong)
			}
			if !strings.HasPrefix(out.String(), backend+": ") || never.MatchString(out.String()) {
				t.Errorf("something did not happen: %s", &out)
			}
			if len(list) < 8 {
				t.Errorf("%d quantities", len(list))
			}
			for _, q := range list {
				if len(q.values) < 2 || q.values[0] <= 0 {
					t.Errorf("%s has samples %v", q.name, q.values)
				}
			}
		})
	}
}

// The ledger finds what is missing, what is there twice, and what should be gone.
func TestLedger(t *testing.T) {
	t.Parallel()
	text := func(ops, one, two string) string {
		b := grand + " " + ops + "\n"
		for _, f := range perTenant {
			b += f + `{tenant="tenant-1"} ` + one + "\n" + f + `{tenant="tenant-2"} ` + two + "\n"
		}
		return b
	}
	for name, c := range map[string]struct {
		text    string
		problem string // "": none
	}{
		"exact":            {text("10", "4", "6"), ""},
		"grand is low":     {text("9", "4", "6"), grand + " adds up to 9, workers acknowledged 10"},
		"tenants are low":  {text("10", "4", "5"), "adds up to 9, workers acknowledged 10"},
		"tenants are high": {text("10", "4", "7"), "adds up to 11, workers acknowledged 10"},
		"not monotone":     {text("10", "2", "8"), "of tenant 1 was 3, and is 2"},
	} {
		l := newLedger()
		for i, body := range []string{text("7", "3", "4"), c.text} {
			p, err := parse(body)
			if err != nil {
				t.Fatal(err)
			}
			problems := strings.Join(l.check(p, []uint64{7, 10}[i], 1, 3), "\n")
			if i == 0 && problems != "" || i == 1 && (c.problem == "") != (problems == "") || i == 1 && !strings.Contains(problems, c.problem) {
				t.Errorf("%s: page %d: %q, want %q", name, i, problems, c.problem)
			}
		}
	}
	// A tenant is deleted, one worker ends, and one is killed.
	l := newLedger()
	p, _ := parse(text("10", "4", "6"))
	if got := l.check(p, 10, 1, 3); got != nil {
		t.Errorf("got %q", got)
	}
	l.forget(1, 1)
	l.end(6)
	l.kill(4, 8)
	p, _ = parse(text("13", "0", "9"))
	if got := l.check(p, 0, 2, 4); len(got) != len(perTenant) || !strings.Contains(got[0], "has tenant 1, which was deleted") {
		t.Errorf("a deleted tenant is back: %q", got)
	}
	for _, bad := range []string{"", grand + " x\n", "soak_wait_seconds_count 3\n"} {
		if p, err := parse(bad); err == nil {
			t.Errorf("%q is parsed as %+v", bad, p)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-backend disk":      "must be heap, shm or redis",
		"-workers 1":         "at least 2",
		"-for 10s":           "too short",
		"-rate 1":            "at least 50",
		"-churn 300":         "-churn at most that",
		"now":                `unexpected argument "now"`,
		"-deploy 0s":         "must be positive",
		"-for 1h -every 30m": "too short",
	} {
		var stderr bytes.Buffer
		if status := command(strings.Fields(args), io.Discard, &stderr); status != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("soak %s: status %d, %s", args, status, &stderr)
		}
	}
}
