package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
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
	expect(exitOK, "inspect "+url, "opened now:", "it is created, from zero (create)")
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
	expect(exitOK, "forget "+url+" orders_total nothing", "orders_total: 1 series deleted", "nothing: 0 series deleted")
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
	expect(exitOK, "inspect "+broken, "problems: see gotheus check")
	os.WriteFile(name, []byte("something else"), 0o600)
	expect(exitFailed, "inspect "+url, "it is set aside", "does not begin with")
	expect(exitUsage, "check", "0 arguments given")
	expect(exitUsage, "check -x a", "-x")
	expect(exitUsage, "check shm:shop", "must be shm://")
	expect(exitOK, "check -h", "Usage: gotheus check FILE")
}
