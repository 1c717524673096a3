package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
)

// TestMain lets the test binary be the service.
func TestMain(m *testing.M) {
	if os.Getenv(envService) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// During each attack, honest pages are complete, and the service survives.
func TestSmall(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Logf("%s has no /proc: nothing is tested", runtime.GOOS)
		return
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			var out, stderr bytes.Buffer
			code := command([]string{"-pages", "2", "-connections", "70", a.name}, &out, &stderr)
			if code != exitOK || strings.Count(out.String(), " 2/2 ") != 2 {
				t.Errorf("exit status %d\n%s\n%s", code, &out, &stderr)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-pages", "0"}, {"-connections", "0"}, {"flood"}, {"-x"}} {
		var out, stderr bytes.Buffer
		if code := command(args, &out, &stderr); code != exitUsage || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, %s", args, code, &stderr)
		}
	}
}
