package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	startLimit = 30 * time.Second // for a worker to become ready
	stopLimit  = 20 * time.Second // for a worker to end when it is told to
	startTries = 3                // in a row, before the fleet gives up
	shortLife  = time.Second      // a worker that lives no longer is replaced with a delay
	delayFirst = 100 * time.Millisecond
	delayMost  = 2 * time.Second
)

var errStopping = errors.New("stopping")

// fleet keeps a number of workers running on one listener.
type fleet struct {
	exe      string
	env      []string
	listener *os.File
	out      *printer

	mu       sync.Mutex
	ready    []*process // by place; nil while there is none
	running  map[*process]bool
	deaths   []int         // pids, of those that were not told to end
	err      error         // why the fleet gave up
	ends     []error       // of workers that failed when told to end
	changed  chan struct{} // closed, and replaced, when any of the above changes
	stopping bool

	stopped chan struct{}
	keepers sync.WaitGroup
}

// process is a worker.
type process struct {
	place   int // from 0
	pid     int
	admin   string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  io.Reader
	stderr  output
	began   time.Time
	overdue atomic.Bool // it had to be killed in the end
}

func (p *process) String() string {
	return fmt.Sprintf("worker %d is pid %d, its own page http://%s/metrics", p.place+1, p.pid, p.admin)
}

// server is the worker's Server header.
func (p *process) server() string { return fmt.Sprintf("shop/%d", p.pid) }

// startFleet starts n workers, which the listener is passed to.
func startFleet(n int, listener *os.File, env []string, out *printer) (*fleet, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &fleet{
		exe: exe, env: env, listener: listener, out: out,
		ready: make([]*process, n), running: make(map[*process]bool),
		changed: make(chan struct{}), stopped: make(chan struct{}),
	}
	for place := range n {
		f.keepers.Go(func() { f.keep(place) })
	}
	return f, nil
}

// change runs do under the lock and wakes all waiters.
func (f *fleet) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// keep runs one worker at a time until the fleet is stopped or gives up.
func (f *fleet) keep(place int) {
	failures, delay := 0, delayFirst
	for again := false; ; again = true {
		wasReady, err := f.once(place, again)
		switch {
		case err == errStopping:
			return
		case wasReady:
			failures = 0
		default:
			failures++
		}
		if failures == startTries {
			f.change(func() { f.err = fmt.Errorf("worker %d does not start: %w", place+1, err) })
			return
		}
		if err == nil { // it lived long enough
			delay = delayFirst
			continue
		}
		select {
		case <-time.After(delay):
		case <-f.stopped:
			return
		}
		delay = min(2*delay, delayMost)
	}
}

// once runs a worker from its start to its end. The error says why it had a short life.
func (f *fleet) once(place int, again bool) (wasReady bool, err error) {
	p, err := f.start(place)
	if err != nil {
		return false, err
	}
	late := time.AfterFunc(startLimit, func() { p.cmd.Process.Kill() })
	line, _ := bufio.NewReader(p.stdout).ReadString('\n')
	inTime := late.Stop()
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if wasReady = word == wordReady && inTime; wasReady {
		p.admin = rest
		p.stderr.forward(f.out, fmt.Sprintf("worker %d, pid %d: ", place+1, p.pid))
		if again {
			f.out.printf("%s\n", p)
		}
		f.change(func() { f.ready[place] = p })
	}
	io.Copy(io.Discard, p.stdout)
	end := p.cmd.Wait()
	if end == nil {
		end = errors.New("exit status 0")
	}

	f.mu.Lock()
	stopping := f.stopping
	f.mu.Unlock()
	f.change(func() {
		delete(f.running, p)
		if f.ready[place] == p {
			f.ready[place] = nil
		}
		if wasReady && !stopping {
			f.deaths = append(f.deaths, p.pid)
		}
	})
	if stopping {
		if wasReady && p.cmd.ProcessState.ExitCode() > 0 || p.overdue.Load() {
			f.change(func() {
				f.ends = append(f.ends, fmt.Errorf("worker %d, pid %d, was told to end: %w", place+1, p.pid, end))
			})
		}
		return wasReady, errStopping
	}
	if wasReady {
		f.out.printf("worker %d, pid %d, ended: %v\n", place+1, p.pid, end)
		if time.Since(p.began) < shortLife {
			return true, end
		}
		return true, nil
	}
	if why, err := strconv.Unquote(rest); word == wordFailed && err == nil {
		return false, errors.New(why)
	}
	if !inTime {
		return false, fmt.Errorf("it was not ready within %v\n%s", startLimit, p.stderr.text())
	}
	return false, fmt.Errorf("%w\n%s", end, p.stderr.text())
}

func (f *fleet) start(place int) (*process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return nil, errStopping
	}
	cmd := exec.Command(f.exe, workerCommand)
	p := &process{place: place, cmd: cmd, began: time.Now()}
	cmd.Env = f.env
	cmd.ExtraFiles = []*os.File{f.listener}
	cmd.Stderr = &p.stderr
	var err, err2 error
	p.stdin, err = cmd.StdinPipe()
	p.stdout, err2 = cmd.StdoutPipe()
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	f.running[p] = true
	return p, nil
}

// wait returns when all workers are ready; or with an error when the fleet has given up, or ctx
// ends.
func (f *fleet) wait(ctx context.Context) ([]*process, error) {
	for {
		f.mu.Lock()
		list, err, changed := make([]*process, 0, len(f.ready)), f.err, f.changed
		for _, p := range f.ready {
			if p != nil {
				list = append(list, p)
			}
		}
		f.mu.Unlock()
		if err != nil || len(list) == cap(list) {
			return list, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// failed waits until the fleet has given up or ctx ends.
func (f *fleet) failed(ctx context.Context) error {
	for {
		f.mu.Lock()
		err, changed := f.err, f.changed
		f.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// kill kills one worker without warning.
func (f *fleet) kill(ctx context.Context) (*process, error) {
	list, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	p := list[rand.IntN(len(list))]
	f.change(func() {
		if f.ready[p.place] == p {
			// so that it does not count as alive until it has been reaped
			f.ready[p.place] = nil
		}
	})
	return p, p.cmd.Process.Kill()
}

// dead returns the pids of workers that ended without being told to.
func (f *fleet) dead() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]int(nil), f.deaths...)
}

// stop ends all workers and waits for them. The error names those that did not end properly.
func (f *fleet) stop() error {
	f.mu.Lock()
	f.stopping = true
	for p := range f.running {
		io.WriteString(p.stdin, wordStop)
		p.stdin.Close()
	}
	f.mu.Unlock()
	close(f.stopped)
	late := time.AfterFunc(stopLimit, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for p := range f.running {
			p.overdue.Store(true)
			p.cmd.Process.Kill()
		}
	})
	f.keepers.Wait()
	late.Stop()
	return errors.Join(f.ends...)
}
