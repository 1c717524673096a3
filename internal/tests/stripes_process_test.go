package tests_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/shm"
)

const stripesOfWorkers, incsOfWorkers = 4, 1000

func init() {
	// A worker of TestStripesOfProcesses defines a striped counter, with GOMAXPROCS from the
	// environment, and then counts with one processor only.
	workers["stripes"] = func() {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
		if err := r.Bind(context.Background(), os.Getenv("FILE")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		c := r.NewCounter("hot_total", "Hot.", &gotheus.CounterOptions{Stripes: stripesOfWorkers})
		runtime.GOMAXPROCS(1)
		for range incsOfWorkers {
			c.Inc()
		}
		fmt.Println("counted")
		bufio.NewReader(os.Stdin).ReadByte() // lives until it is killed
	}
}

// Processes that run on one processor each write to different stripes, whatever GOMAXPROCS was when
// they defined the counter.
func TestStripesOfProcesses(t *testing.T) {
	t.Parallel()
	for _, procs := range []int{1, 2, 3, stripesOfWorkers, 2 * stripesOfWorkers} {
		url := shmURL(t)
		for i := range stripesOfWorkers {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=stripes", "FILE="+url, fmt.Sprint("GOMAXPROCS=", procs), "GORACE=atexit_sleep_ms=0")
			cmd.Stderr = os.Stderr
			if _, err := cmd.StdinPipe(); err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "counted\n" {
				t.Fatalf("worker %d: %q, %v", i, line, err)
			}
		}
		path, _, _ := strings.Cut(strings.TrimPrefix(url, "shm://"), "?")
		b, err := shm.OpenContext(t.Context(), path, &shm.Options{AnyFileSystem: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		var counts []uint64
		for _, g := range b.Walk() {
			if g.Family.Name == "hot_total" {
				for i := range stripesOfWorkers {
					counts = append(counts, g.Series[0].Words[i*g.Family.StripeWords()+backend.CounterInt].Load())
				}
			}
		}
		for _, n := range counts {
			if n != incsOfWorkers {
				t.Errorf("with GOMAXPROCS=%d, the stripes hold %d", procs, counts)
				break
			}
		}
		if len(counts) != stripesOfWorkers {
			t.Errorf("%d stripes", len(counts))
		}
		b.Close(t.Context())
	}
}
