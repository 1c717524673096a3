package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

func runText(args ...string) (status int, text string) {
	var out bytes.Buffer
	status = run(args, &out, &out)
	return status, out.String()
}

// A file from its making to its end, as an operator sees it.
func TestFileCommands(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	name, url := path+shm.Suffix, "shm://"+path+"?fs=any&limit=1MiB"
	expect := func(status int, args string, texts ...string) {
		t.Helper()
		got, out := runText(strings.Fields(args)...)
		if got != status {
			t.Errorf("gotheus %s: status %d, want %d", args, got, status)
		}
		for _, text := range texts {
			if !strings.Contains(out, text) {
				t.Errorf("gotheus %s: %q is missing in\n%s", args, text, out)
			}
		}
	}
	expect(exitFailed, "inspect "+url, "opened now:", "it is created, from zero (create)", "no such file")
	expect(exitFailed, "check "+url, "no such file")
	expect(exitFailed, "forget "+url+" orders_total", "no such file")
	if _, err := os.Stat(name); err == nil {
		t.Fatal("a command made the file")
	}

	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	if err := r.Bind(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	v := r.NewCounterVec("orders_total", "Orders.", nil, "country")
	v.With("SE").Inc()
	v.With("FI").Inc()
	v.DeleteMatching(gotheus.Labels{"country": "FI"})
	r.NewGauge("busy", "Busy.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}).Inc()
	expect(exitOK, "inspect "+name, "1 alive, 0 dead", "orders_total", `orders_total{country="SE"}`, "gauge, sum", "by a live process")
	for _, arg := range []string{name, path, url} {
		expect(exitOK, "check "+arg, "all is well: 2 families, 2 series")
	}
	expect(exitOK, "inspect "+url, "start=fresh: it continues with its values (resume)")
	expect(exitOK, "forget "+url+" orders_total", "orders_total: 0 series deleted")
	r.Close(context.Background())

	expect(exitOK, "inspect "+url, "start=fresh: it begins from zero", "0 alive", "by none alive")
	expect(exitFailed, "forget "+url+" orders_total nothing", "orders_total: 1 series deleted", "nothing: the file has no metric of this name")
	expect(exitOK, "forget "+url+" orders_total", "orders_total: 0 series deleted")
	expect(exitOK, "check "+name, "0 series")

	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(p, []byte("orders_total"))
	p[i] ^= 1
	broken := filepath.Join(t.TempDir(), "broken")
	os.WriteFile(broken, p, 0o600)
	expect(exitFailed, "check "+broken, "wrong checksum", "problem")
	expect(exitFailed, "inspect "+broken, "problems: see gotheus check")
	os.WriteFile(name, []byte("something else"), 0o600)
	expect(exitFailed, "inspect "+url, "it is set aside", "does not begin with")
	expect(exitUsage, "check", "0 arguments given")
	expect(exitUsage, "check -x a", "-x")
	for _, command := range []string{"check %s", "inspect %s", "forget %s a"} {
		expect(exitUsage, fmt.Sprintf(command, "shm:shop"), "must be shm://")
		expect(exitUsage, fmt.Sprintf(command, "redis://u:secret@h"), "redis://h: only files of shared memory")
		expect(exitUsage, fmt.Sprintf(command, "heap:"), "only files of shared memory")
		expect(exitFailed, fmt.Sprintf(command, path+"-missing"), "no such file")
		expect(exitFailed, fmt.Sprintf(command, filepath.Dir(path)), "not a regular file")
	}
	expect(exitOK, "check -h", "Usage: gotheus check FILE")
}

// What anybody can put into a file must not reach the terminal as an instruction to it.
func TestFileCommandsEscape(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[2J\u009b1m\u202e\x7f\n\r"
	path := filepath.Join(t.TempDir(), "shop"+evil)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	u := &url.URL{Scheme: "shm", Path: path, RawQuery: "fs=any&limit=1MiB"}
	if err := r.Bind(context.Background(), u.String()); err != nil {
		t.Fatal(err)
	}
	defer r.Close(context.Background())
	r.NewCounterVec("orders_total", "Help"+evil, nil, "country").With("SE" + evil).Inc()
	name := path + shm.Suffix
	for _, args := range [][]string{
		{"check", name}, {"inspect", name}, {"inspect", u.String()}, {"forget", name, "orders_total", "no" + evil},
		{"check", name + evil}, {"inspect", name + evil}, {"forget", name + evil, "a"}, {"inspect", "redis://" + evil},
		{"check", "-" + evil}, {"demo", evil}, {"demo", "-" + evil}, {"demo", "-backend", evil}, {evil},
	} {
		_, out := runText(args...)
		if i := strings.IndexFunc(out, func(r rune) bool { return r != '\n' && r != '\t' && !strconv.IsPrint(r) }); i >= 0 {
			t.Errorf("gotheus %q: %q in\n%q", args, out[i:i+1], out)
		}
	}
	if _, out := runText("inspect", name); !strings.Contains(out, `orders_total{country="SE\u001b[2J\u009b1m\u202e\u007f\n\u000d"}`) {
		t.Errorf("the label value is not recognisable in\n%s", out)
	}
}

func TestOutputCannotBeWritten(t *testing.T) {
	t.Parallel()
	broken := writerFunc(func([]byte) (int, error) { return 0, errors.New("disk full") })
	var stderr bytes.Buffer
	if status := run([]string{"help"}, broken, &stderr); status != exitFailed || !strings.Contains(stderr.String(), "disk full") {
		t.Errorf("status %d, stderr %q", status, &stderr)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
