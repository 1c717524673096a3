//go:build linux

package tests_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus"
)

var lives = flag.Int("lives", 20, "how many processes TestShortLives and BenchmarkScrapeAfterLives start one after the other")

func init() { workers["short"] = shortWorker }

// shortWorker is a program with metrics of several kinds, including the library's own, that ends
// without Close.
func shortWorker() {
	if err := gotheus.Bind(context.Background(), os.Getenv("FILE")); err != nil {
		panic(err)
	}
	gotheus.NewCounterVec("lives_total", "Lives.", nil, "kind").With("short").Inc()
	gotheus.NewHistogram("length", "Length.", nil).Observe(0)
	gotheus.NewGauge("alive", "Alive.", &gotheus.GaugeOptions{Mode: gotheus.ModeSum}).Inc()
	if err := gotheus.Default().Flush(context.Background()); err != nil {
		panic(err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// live runs n processes, some concurrently, and waits for them to end.
func live(t testing.TB, url string, n, atOnce int) {
	t.Helper()
	var wait sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for range n {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=short", "FILE="+url)
			out, _ := cmd.CombinedOutput()
			if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !s.Signaled() || s.Signal() != syscall.SIGKILL {
				t.Errorf("%v: %s", cmd.ProcessState, out)
			}
		})
	}
	wait.Wait()
}

// After any number of processes that have started and died, in sequence or concurrently, the page
// is the same to the byte except for their counts.
//
// The long run, with the cost of scrapes: go test -run TestShortLives -bench ScrapeAfterLives
// -lives 10000 .
func TestShortLives(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	r, _ := newRegistry(t, nil)
	bind(t, r, url)
	const atOnce = 10
	shape := func(died int) string {
		p := page(t, r)
		for _, line := range []string{`lives_total{kind="short"} %d`, `length_count %d`, `length_bucket{le="+Inf"} %d`, "alive 0"} {
			if strings.Contains(line, "%d") {
				line = fmt.Sprintf(line, died)
			}
			if !strings.Contains(p, line+"\n") {
				t.Errorf("after %d lives: no line %s in\n%s", died, line, p)
			}
		}
		return strings.ReplaceAll(p, fmt.Sprintf(" %d\n", died), " all\n")
	}
	live(t, url, 2, 1)
	first := shape(2)
	live(t, url, *lives, 1)
	if now := shape(2 + *lives); now != first {
		t.Errorf("after %d more in sequence:\n%s\nbefore:\n%s", *lives, now, first)
	}
	live(t, url, atOnce, atOnce)
	if now := shape(2 + *lives + atOnce); now != first {
		t.Errorf("after %d more concurrently:\n%s\nbefore:\n%s", atOnce, now, first)
	}
}

// BenchmarkScrapeAfterLives measures a page of a file in which one process has died, many in
// sequence, and 200 concurrently.
func BenchmarkScrapeAfterLives(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "gotheus-bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	url := "shm://" + filepath.Join(dir, "lives")
	r, _ := newRegistry(b, nil)
	bind(b, r, url)
	for _, c := range []struct {
		name          string
		lives, atOnce int
	}{
		{"one", 1, 1},
		{"one by one", *lives, 1},
		{"200 at once", 200, 200},
	} {
		live(b, url, c.lives, c.atOnce)
		b.Run(fmt.Sprintf("%s: %d", c.name, c.lives), func(b *testing.B) {
			st, err := os.Stat(filepath.Join(dir, "lives.gotheus-v2"))
			if err != nil {
				b.Fatal(err)
			}
			var p bytes.Buffer
			if err := r.WriteText(&p); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := r.WriteText(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(p.Len()), "bytes/page")
			b.ReportMetric(float64(st.Size())/1024, "KiB/file")
		})
	}
}
