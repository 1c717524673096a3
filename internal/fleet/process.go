//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// process is a child process, which executes operations one after the other.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
	limit time.Duration // for an operation
	once  sync.Once
	err   error
}

const (
	envWorker  = "GOTHEUS_FLEET_WORKER"
	callLimit  = 5 * time.Minute
	readyLimit = 60 * time.Second
)

// request is what a child is told to do, reply what it answers.
type request struct {
	Op   string
	Args json.RawMessage
}

type reply struct {
	Error  string
	Result json.RawMessage
}

// failure is an error of an operation. Other errors are about the process.
type failure string

func (f failure) Error() string { return string(f) }

// start starts a child process and waits until it is ready.
func (r *run) start(name string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(r.exe), limit: callLimit}
	// A single run of the library's own default registry would bind to a backend of the user's.
	p.cmd.Env = append(os.Environ(), envWorker+"=1", "GOTHEUS_BACKEND=")
	p.cmd.Stderr = r.stderr
	// It must also end with its parent during an operation.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(stdout, 1<<16)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.children = append(r.children, p)
	r.mu.Unlock()
	late := time.AfterFunc(readyLimit, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	if _, err := p.out.ReadString('\n'); err != nil {
		return nil, fmt.Errorf("process %s did not start: %w", name, errors.Join(err, p.wait()))
	}
	return p, nil
}

// startAll starts n children.
func (r *run) startAll(n int, name string) (list []*process, err error) {
	for i := range n {
		p, err := r.start(fmt.Sprint(name, "-", i))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// call lets the process execute an operation. Result may be nil.
func (p *process) call(op string, args, result any) error {
	encoded, err := json.Marshal(args)
	if err != nil {
		return err
	}
	line, err := json.Marshal(request{op, encoded})
	if err != nil {
		return err
	}
	late := time.AfterFunc(p.limit, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("process %s, operation %s: %w", p.name, op, err)
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("process %s has ended during operation %s: %w", p.name, op, err)
	}
	var a reply
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("process %s, operation %s: %w", p.name, op, err)
	}
	if a.Error != "" {
		return fmt.Errorf("process %s, operation %s: %w", p.name, op, failure(a.Error))
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// each calls f for all processes at the same time.
func each(list []*process, f func(i int, p *process) error) error {
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, p := range list {
		all.Go(func() { errs[i] = f(i, p) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (p *process) wait() error {
	p.once.Do(func() { p.err = p.cmd.Wait() })
	return p.err
}

// end lets the process end as a program that does not close its registries.
func (p *process) end() error {
	p.stdin.Close()
	late := time.AfterFunc(readyLimit, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.wait(); err != nil {
		return fmt.Errorf("process %s: %w", p.name, err)
	}
	return nil
}

// kill kills the process with kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.wait() // whose error says that it was killed
}

func (p *process) stop() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) cont() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// killAll kills all children that are still there.
func (r *run) killAll() {
	r.mu.Lock()
	list := r.children
	r.children = nil
	r.mu.Unlock()
	for _, p := range list {
		p.cmd.Process.Kill()
	}
	for _, p := range list {
		p.wait()
	}
}

// forget removes a process that has ended from those to be killed.
func (r *run) forget(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.children = slices.DeleteFunc(slices.Clone(r.children), func(c *process) bool { return c == p })
}

// publish executes an operation that flushes. If that fails, which is wrong, it flushes until that
// succeeds.
func (r *run) publish(p *process, op string, args any, when string) error {
	err := p.call(op, args, nil)
	for deadline := time.Now().Add(callLimit); err != nil; err = p.call("flush", none{}, nil) {
		if _, failed := errors.AsType[failure](err); !failed || time.Now().After(deadline) {
			return err
		}
		r.wrong("%s: %v", when, err)
	}
	return nil
}
