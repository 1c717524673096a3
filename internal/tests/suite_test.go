package tests_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
)

// The suite. Each case is a story: a series of commands to workers that share a backend. It runs on
// the heap with one worker, and on each backend that processes share with several real processes.

// backends are the URLs of new, empty backends. "heap:" is not shared. The workers of a "fleet:"
// are in this process, each with its own connection to a store in memory.
var backends = map[string]func(t testing.TB) string{
	"heap":    func(testing.TB) string { return "heap:" },
	"syncer":  newFleet,
	"sharded": newShardedFleet,
	"shm": func(t testing.TB) string {
		return "shm://" + filepath.Join(t.TempDir(), "suite") + "?fs=any&limit=8MiB"
	},
}

// command is a command to a worker.
type command struct {
	Do     string
	Name   string            `json:",omitempty"`
	Help   string            `json:",omitempty"`
	Mode   backend.Mode      `json:",omitempty"`
	Scope  gotheus.Scope     `json:",omitempty"`
	TTL    time.Duration     `json:",omitempty"`
	Names  []string          `json:",omitempty"`
	Values []string          `json:",omitempty"`
	V      float64           `json:",omitempty"`
	Match  map[string]string `json:",omitempty"`
	Key    string            `json:",omitempty"` // of a retained instrument
}

// worker executes commands, in this or another process.
type worker struct {
	t    *testing.T
	in   io.WriteCloser
	out  *bufio.Reader
	cmd  *exec.Cmd // nil: a goroutine
	host *fleetStore
	done chan struct{}
}

func init() { workers["suite"] = func() { serveSuite(os.Stdin, os.Stdout, os.Getenv("FILE")) } }

func startWorker(t *testing.T, url string) *worker {
	t.Helper()
	w := &worker{t: t, done: make(chan struct{})}
	if where, ok := strings.CutPrefix(url, "fleet:"); ok {
		w.host = joinFleet(where)
		url = "fleet:" + w.host.name
	}
	if url == "heap:" || w.host != nil {
		in, inW := io.Pipe()
		outR, out := io.Pipe()
		w.in, w.out = inW, bufio.NewReader(outR)
		go func() {
			defer close(w.done)
			serveSuite(in, out, url)
		}()
	} else {
		w.cmd = exec.Command(os.Args[0])
		w.cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=suite", "FILE="+url, "GORACE=atexit_sleep_ms=0")
		w.cmd.Stderr = os.Stderr
		out, err := w.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if w.in, err = w.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := w.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.out = bufio.NewReader(out)
	}
	t.Cleanup(w.stop)
	return w
}

// stop makes the worker close its registry and end.
func (w *worker) stop() {
	w.in.Close()
	if w.cmd != nil {
		w.cmd.Wait()
	} else {
		<-w.done
	}
}

// kill ends the worker without warning.
func (w *worker) kill() {
	if w.host != nil {
		w.host.kill()
		w.stop()
		return
	}
	w.cmd.Process.Kill()
	w.cmd.Wait()
}

// do makes the worker execute a command and returns the answer.
func (w *worker) do(c command) string {
	w.t.Helper()
	if err := json.NewEncoder(w.in).Encode(c); err != nil {
		w.t.Fatal(err)
	}
	line, err := w.out.ReadBytes('\n')
	var answer string
	if err == nil {
		err = json.Unmarshal(line, &answer)
	}
	if err != nil {
		w.t.Fatalf("%+v: %v", c, err)
	}
	if strings.HasPrefix(answer, "panic: ") {
		w.t.Fatalf("%+v: %s", c, answer)
	}
	return answer
}

// story is a case with its workers, which on the heap are all the same one.
type story struct {
	*testing.T
	url string
	w   []*worker
}

func (s *story) all(c command) {
	s.Helper()
	done := map[*worker]bool{}
	for _, w := range s.w {
		if !done[w] {
			w.do(c)
		}
		done[w] = true
	}
}

// pages fails the test unless every worker's page is this.
func (s *story) pages(lines ...string) {
	s.Helper()
	for i, w := range s.w {
		if got := w.do(command{Do: "page"}); got != strings.Join(lines, "; ") {
			s.Errorf("worker %d shows %q, want %q", i, got, strings.Join(lines, "; "))
		}
	}
}

func (s *story) shared() bool { return s.url != "heap:" }

func TestSuite(t *testing.T) {
	t.Parallel()
	for where, url := range backends {
		for name, tell := range stories {
			t.Run(where+"/"+name, func(t *testing.T) {
				t.Parallel()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				s := &story{T: t, url: url(t)}
				first := startWorker(t, s.url)
				s.w = []*worker{first, first, first}
				if s.shared() {
					s.w[1], s.w[2] = startWorker(t, s.url), startWorker(t, s.url)
				}
				tell(s)
			})
		}
	}
}
