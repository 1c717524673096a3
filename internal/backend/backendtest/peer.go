package backendtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Worker runs the test binary as a process with an open backend, if TestBackend has started it as
// one; otherwise it does nothing. TestMain must call it first, with the Open of its [Backends]:
//
//	func TestMain(m *testing.M) {
//		backendtest.Worker(backends.Open)
//		os.Exit(m.Run())
//	}
func Worker(open func(place string) (backend.Backend, error)) {
	workers.Store(true)
	place := os.Getenv(workerEnv)
	if place == "" {
		return
	}
	b, err := open(place)
	if err != nil {
		json.NewEncoder(os.Stdout).Encode(reply{Err: err.Error()})
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(reply{})
	serve(newInstance(b), os.Stdin, os.Stdout)
	os.Exit(0)
}

const workerEnv = "GOTHEUS_BACKENDTEST_PLACE"

// workers tells that TestMain has called Worker. Without it, a child process would run all tests
// and start children of its own.
var workers atomic.Bool

func serve(i *instance, in io.Reader, out io.Writer) {
	requests, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q request
		if requests.Decode(&q) != nil {
			return
		}
		if q.Do == "count" { // until this process is killed
			f := i.family(q)
			for n := 1; ; n++ {
				// announce them first, so that no count is unknown
				fmt.Fprintln(out, "counts", 10*n)
				if i.many(f, 10) == nil && i.b.Flush(context.Background()) == nil {
					fmt.Fprintln(out, "acknowledged", 10*n)
				}
			}
		}
		replies.Encode(i.do(q))
	}
}

// peer is an instance in this or another process.
type peer struct {
	t    testing.TB
	name string
	here *instance
	die  func(backend.Backend)
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	over bool
}

// start opens a backend, in a child process if child is set.
func (o *Backends) start(t testing.TB, place, name string, child bool) *peer {
	t.Helper()
	p := &peer{t: t, name: name, die: o.Die}
	if !child {
		b, err := o.Open(place)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		p.here = newInstance(b)
	} else {
		p.cmd = exec.Command(os.Args[0])
		p.cmd.Env = append(os.Environ(), workerEnv+"="+place, "GORACE=atexit_sleep_ms=0")
		p.cmd.Stderr = os.Stderr
		out, err := p.cmd.StdoutPipe()
		if err == nil {
			p.in, err = p.cmd.StdinPipe()
		}
		if err == nil {
			err = p.cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		p.out = bufio.NewReader(out)
		if a := p.answer(); a.Err != "" {
			t.Fatalf("Open in a child process: %s", a.Err)
		}
	}
	t.Cleanup(func() {
		if !p.over {
			p.end()
		}
	})
	return p
}

func (p *peer) answer() (a reply) {
	p.t.Helper()
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		p.t.Fatalf("%s: the child process answered %q, %v: does TestMain call Worker first?", p.name, line, err)
	}
	return a
}

// ask executes a request, and returns an error as the backend reports it.
func (p *peer) ask(q request) reply {
	p.t.Helper()
	if p.here != nil {
		return p.here.do(q)
	}
	if err := json.NewEncoder(p.in).Encode(q); err != nil {
		p.t.Fatal(err)
	}
	return p.answer()
}

// must is ask for a request that must not fail.
func (p *peer) must(q request) reply {
	p.t.Helper()
	a := p.ask(q)
	if a.Err != "" {
		p.t.Fatalf("%s: %s: %s", p.name, q.Do, a.Err)
	}
	return a
}

// end closes the backend.
func (p *peer) end() {
	p.t.Helper()
	p.over = true
	a := p.ask(request{Do: "close"})
	if p.cmd != nil {
		p.in.Close()
		p.cmd.Wait()
	}
	if a.Err != "" {
		p.t.Errorf("%s: Close: %s", p.name, a.Err)
	}
}

// kill ends the instance without closing it.
func (p *peer) kill() {
	p.over = true
	if p.here != nil {
		p.die(p.here.b)
		return
	}
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func mustJSON(q request) string {
	b, err := json.Marshal(q)
	if err != nil {
		panic(err)
	}
	return string(b)
}
