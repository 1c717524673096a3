package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

const envActAsGotheus = "GOTHEUS_TEST_ACT_AS_GOTHEUS"

// TestMain lets the test binary be the command, and so its workers, too.
func TestMain(m *testing.M) {
	if os.Getenv(envActAsGotheus) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args   string
		status int
		text   string // on stdout if status is 0, otherwise on stderr
	}{
		{"", exitOK, "demo "},
		{"help", exitOK, "demo "},
		{"--help", exitOK, "demo "},
		{"dmeo", exitUsage, `unknown command "dmeo"`},
		{"demo -workers 0", exitUsage, "-workers 0: there must be at least 1"},
		{"demo -workers -2", exitUsage, "-workers -2: there must be at least 1"},
		{"demo -workers many", exitUsage, "-workers"},
		{"demo -for -1s", exitUsage, "-for -1s: must not be negative"},
		{"demo -for 10", exitUsage, "-for"},
		{"demo -load", exitUsage, "-load"},
		{"demo now", exitUsage, `unexpected argument "now"`},
		{"demo -backend /dev/shm/shop", exitUsage, "must be a URL"},
		{"demo -backend %zz:", exitUsage, "-backend"},
		{"demo -backend redis://u:secret#@h:", exitUsage, "-backend: this is not a URL"},
		{"demo redis://u:secret@h", exitUsage, `unexpected argument "redis://h"`},
		{"redis://u:secret@h", exitUsage, `unknown command "redis://h"`},
		{"u:secret@h", exitUsage, `unknown command "(not a URL)"`},
		{"check", exitUsage, "0 arguments given"},
		{"inspect a b", exitUsage, "2 arguments given"},
		{"forget a", exitUsage, "1 argument given"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(strings.Fields(tt.args), &stdout, &stderr)
		out := &stdout
		if tt.status != exitOK {
			out = &stderr
		}
		if strings.Contains(stderr.String(), "secret") {
			t.Errorf("gotheus %s: the password is shown: %s", tt.args, &stderr)
		}
		if status != tt.status || !strings.Contains(out.String(), tt.text) {
			t.Errorf("gotheus %s: status %d, stdout %q, stderr %q; want status %d and %q", tt.args, status, &stdout, &stderr, tt.status, tt.text)
		}
	}
	if status := run([]string{"demo", "-h"}, io.Discard, io.Discard); status != exitOK {
		t.Errorf("gotheus demo -h: status %d", status)
	}
}
