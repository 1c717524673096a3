package gotheus_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// As root, test.sh says what it installs and what for, before it does so; with --no-install, it
// installs nothing, and says what it leaves out. All programs here but the most ordinary ones are
// stand-ins that only write down how they were called, and what tests need is missing.
func TestTestScript(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("test.sh")
	if err != nil {
		t.Fatal(err)
	}
	run := func(user string, args ...string) (said, called string) {
		t.Helper()
		bin, log := t.TempDir(), filepath.Join(t.TempDir(), "called")
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"cat", "dirname", "mktemp", "rm", "sh"} {
			path, err := exec.LookPath(name)
			if err == nil {
				err = os.Symlink(path, filepath.Join(bin, name))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"apt-get", "dpkg", "install", "modprobe", "service", "unshare", "grep"} {
			write(name, `echo "`+name+` $*" >>"$CALLED"; echo "(`+name+` $1)"`+"\n")
		}
		write("id", "echo "+user+"\n")
		write("go", `case $1 in env) echo no-compiler ;; list) pwd ;; *) echo "go $*" >>"$CALLED" ;; esac`+"\n")
		cmd := exec.Command(script, args...)
		cmd.Env = []string{"PATH=" + bin, "CALLED=" + log, "TMPDIR=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
		text, _ := os.ReadFile(log) // missing if nothing was called
		return string(out), string(text)
	}

	said, called := run("0", "-short")
	before, _, _ := strings.Cut(said, "(apt-get")
	for _, want := range []string{"redis-server: a server for tests of Redis", "prometheus-pushgateway: it is pushed to", "gcc: the race detector", "--no-install"} {
		if !strings.Contains(before, want) {
			t.Errorf("%q is not said before anything is installed: %s", want, said)
		}
	}
	if !strings.Contains(called, "apt-get install ") || !strings.Contains(called, "-timeout 20m -short ./...") {
		t.Errorf("called: %s", called)
	}
	for _, c := range [][]string{{"0", "--no-install", "-short"}, {"1000", "-short"}} {
		said, called := run(c[0], c[1:]...)
		if strings.Contains(called, "apt-get") || strings.Contains(called, "install ") || !strings.Contains(called, "-timeout 20m -short ./...") {
			t.Errorf("%v: called: %s", c, called)
		}
		if !strings.Contains(said, "left out: tests that need redis-server, because redis-server is not installed") {
			t.Errorf("%v: %s", c, said)
		}
	}
	for _, help := range []string{"-h", "--help"} {
		if said, called := run("0", help); !strings.HasPrefix(said, "Usage: ./test.sh [--no-install]") || called != "" {
			t.Errorf("%s: %s, called %s", help, said, called)
		}
	}
}
