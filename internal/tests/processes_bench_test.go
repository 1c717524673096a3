//go:build linux

package tests_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

func init() { workers["hot"] = hotWorker }

// hotWorker increments a counter as many times as each line of its input says, and prints the
// nanoseconds that this took.
func hotWorker() {
	stripes, _ := strconv.Atoi(os.Getenv("STRIPES"))
	c := gotheus.NewCounter("hot_total", "Hot.", &gotheus.CounterOptions{Stripes: stripes})
	if err := gotheus.Bind(context.Background(), os.Getenv("FILE")); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		n, _ := strconv.Atoi(in.Text())
		began := time.Now()
		for range n {
			c.Inc()
		}
		fmt.Println(time.Since(began).Nanoseconds())
	}
}

// BenchmarkProcesses measures Inc in processes that increment the same counter in one file all the
// time. It reports the figure of the slowest process.
func BenchmarkProcesses(b *testing.B) {
	for _, c := range []struct {
		name               string
		processes, stripes int
	}{
		{"alone", 1, 0},
		{"alone, 4 stripes", 1, 4},
		{"two processes", 2, 0},
		{"two processes, 4 stripes", 2, 4},
	} {
		b.Run(c.name, func(b *testing.B) {
			dir, err := os.MkdirTemp("/dev/shm", "gotheus-bench")
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(dir)
			type process struct {
				in  *os.File
				out *bufio.Scanner
			}
			var all []process
			for range c.processes {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=hot", "FILE=shm://"+filepath.Join(dir, "hot"), "STRIPES="+strconv.Itoa(c.stripes))
				r, w, err := os.Pipe()
				if err != nil {
					b.Fatal(err)
				}
				cmd.Stdin, cmd.Stderr = r, os.Stderr
				out, err := cmd.StdoutPipe()
				if err == nil {
					err = cmd.Start()
				}
				if err != nil {
					b.Fatal(err)
				}
				r.Close()
				defer func() {
					w.Close()
					cmd.Wait()
				}()
				p := process{w, bufio.NewScanner(out)}
				if !p.out.Scan() || p.out.Text() != "ready" {
					b.Fatal("a process did not start")
				}
				all = append(all, p)
			}
			took := make([]int, len(all))
			b.ResetTimer()
			for _, p := range all {
				fmt.Fprintln(p.in, b.N)
			}
			for i, p := range all {
				p.out.Scan()
				if took[i], err = strconv.Atoi(p.out.Text()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(slices.Max(took))/float64(b.N), "ns/op")
		})
	}
}
