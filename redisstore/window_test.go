//go:build linux

package redisstore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

func windowed(r *gotheus.Registry) *gotheus.Summary {
	return r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{1}, MaxAge: 2 * time.Second, Slots: 4})
}

func init() { children["observer"] = observe }

// observe observes the values that it reads.
func observe() {
	r := newRegistry()
	if err := r.Bind(context.Background(), os.Getenv("URL")); err != nil {
		fmt.Println(err)
		return
	}
	s := windowed(r)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		v, _ := strconv.ParseFloat(lines.Text(), 64)
		s.Observe(v)
		r.Flush(context.Background())
		fmt.Println("observed")
	}
}

// The quantiles of a fleet in real time: they are still there long after MaxAge, and observations
// from before a process was stopped or killed do not come back, whether or not the others took it
// for dead.
func TestWindow(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	for _, query := range []string{"ns=patient&interval=50ms&alive=5m", "ns=hasty&interval=50ms&alive=1s", "ns=sharded&interval=50ms&alive=1s&shards=3"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			runtime.LockOSThread() // children die with their parent thread
			defer runtime.UnlockOSThread()
			url := server.url(query)
			c := startChild(t, "observer", "URL="+url)
			observe := func(v float64) {
				fmt.Fprintln(c.in, v)
				if !c.lines.Scan() || c.lines.Text() != "observed" {
					t.Fatalf("%q, %v", c.lines.Text(), c.lines.Err())
				}
			}
			r := open(t, url)
			windowed(r)
			await := func(what string, ok func(float64) bool) {
				t.Helper()
				for deadline := time.Now().Add(2 * time.Minute); ; {
					_, rest, _ := strings.Cut(page(t, r), "\ns{quantile=\"1\"} ")
					line, _, _ := strings.Cut(rest, "\n")
					v, err := strconv.ParseFloat(line, 64)
					if err != nil {
						t.Fatal(err)
					}
					if ok(v) {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("never: %s; the last is %v", what, v)
					}
				}
			}
			forgotten := func(v float64) bool { return v != v }
			for range 100 {
				observe(1000)
			}
			await("the first", func(v float64) bool { return v > 900 })
			await("the first are forgotten", forgotten)
			await("later ones", func(v float64) bool { observe(1000); return v > 900 })
			c.cmd.Process.Signal(syscall.SIGSTOP)
			await("the stopped one's are forgotten", forgotten)
			c.cmd.Process.Signal(syscall.SIGCONT)
			await("it goes on", func(v float64) bool {
				if v > 10 {
					t.Fatalf("%v was observed before it was stopped", v)
				}
				observe(7)
				return v > 6
			})
			c.cmd.Process.Kill()
			c.cmd.Wait()
			await("the killed one's are forgotten", forgotten)
		})
	}
}
