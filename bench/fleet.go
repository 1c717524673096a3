package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Ten instances with many series. Nine of them are in another process, so that the scraped process
// has a realistic heap; so is the watcher of the server.

const fleetChild = "GOTHEUS_BENCH_FLEET" // address of the server, for the child process

// others is the process with the other instances, which executes commands.
type others struct {
	in    io.Writer
	lines *bufio.Scanner
}

func startOthers(e *env, s *server) (*others, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fleetChild+"="+s.addr)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e.cleanup = append(e.cleanup, func() { in.Close(); cmd.Wait() })
	return &others{in, bufio.NewScanner(out)}, nil
}

// do sends a command to the others and returns their answer.
func (o *others) do(format string, args ...any) (answer string, err error) {
	fmt.Fprintf(o.in, format+"\n", args...)
	if !o.lines.Scan() {
		return "", fmt.Errorf("the process of the others has ended: %v", o.lines.Err())
	}
	answer, ok := strings.CutPrefix(o.lines.Text(), "ok ")
	if !ok {
		return "", fmt.Errorf("in the process of the others: %s", answer)
	}
	return answer, nil
}

// beOthers runs the process with the other instances.
func beOthers(addr string) error {
	s := connect(addr)
	e := new(env)
	var all []*instance
	var watch *stall
	one := func(line string) (string, error) {
		name, args, _ := strings.Cut(line, " ")
		switch name {
		case "begin":
			x, err := newInstance(e, s, "fleet", requests(), fleetSeries)
			all = append(all, x)
			return "", err
		case "publish":
			x := all[len(all)-1]
			x.count(fleetSeries, 1)
			return "", x.flush()
		case "leave":
			x := all[len(all)-1]
			all = all[:len(all)-1]
			return "", x.Close(context.Background())
		case "count":
			var n, step int
			fmt.Sscan(args, &n, &step)
			for _, x := range all {
				x.count(n, step)
				if err := x.flush(); err != nil {
					return "", err
				}
			}
			return "", nil
		case "watch":
			var err error
			watch, err = s.watch()
			return "", err
		case "end":
			command, name, ping, err := watch.end()
			return fmt.Sprintf("%d %s %d", command, name, ping), err
		}
		return "", fmt.Errorf("%q?", line)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		began := time.Now()
		answer, err := one(lines.Text())
		if answer == "" {
			answer = fmt.Sprint(int64(time.Since(began)))
		}
		if err != nil {
			fmt.Println("failed:", err)
			continue
		}
		fmt.Println("ok", answer)
	}
	return nil
}

// fleetReport measures scrapes of one of many instances, and how long they keep the server from
// other clients.
func fleetReport(e *env, w io.Writer, rounds int) error {
	s, err := e.redis()
	if err != nil {
		return err
	}
	o, err := startOthers(e, s)
	if err != nil {
		return err
	}
	r := &fleetRun{w: w, o: o}
	fmt.Fprintln(w, "| | min | median | longest command in the server | which | longest PING of another client |")
	fmt.Fprintln(w, "|---|--:|--:|--:|---|--:|")
	tell := func(format string, args ...any) func() error {
		return func() error {
			_, err := o.do(format, args...)
			return err
		}
	}
	x, err := newInstance(e, s, "fleet", requests(), fleetSeries)
	if err != nil {
		return err
	}
	x.count(fleetSeries, 1)
	idle, err := newInstance(e, s, "fleet", requests(), 0)
	if err != nil {
		return err
	}
	scrape := func() error { return x.Sync(context.Background()) }
	nothing := func() error { return nil }
	r.once("first publication, with the directory", nothing, x.flush)
	for i := range fleet - 1 {
		r.time("first publication of another", tell("begin"), tell("publish"), i%2 == 0)
	}
	r.print()
	r.once("first scrape", nothing, scrape)
	r.once("first scrape of an instance that counts nothing", nothing, func() error { return idle.Sync(context.Background()) })
	for _, c := range []struct {
		name    string
		n, step int
	}{
		{"scrape, nothing has changed", 0, 1},
		{"scrape, the first tenth of the series has changed in all others", fleetSeries / 10, 1},
		{"scrape, every tenth series has changed in all others", fleetSeries, 10},
		{"scrape, all series have changed in all others", fleetSeries, 1},
	} {
		r.several(c.name, rounds, tell("count %d %d", c.n, c.step), scrape)
		r.print()
	}
	r.several("publication, all series have changed", rounds, func() error { x.count(fleetSeries, 1); return nil }, x.flush)
	r.print()
	r.several("an instance leaves, and its words pass to the base", 2, nothing, tell("leave"))
	r.print()
	return r.err
}

// fleetRun records durations. The server is watched in every second run; runs that happen only once
// are timed while watched.
type fleetRun struct {
	w     io.Writer
	o     *others
	err   error
	name  string
	times []float64
	worst struct {
		command, ping time.Duration
		name          string
	}
}

func (r *fleetRun) once(name string, prepare, do func() error) {
	r.time(name, prepare, func() error {
		began := time.Now()
		defer func() { r.times = append(r.times, float64(time.Since(began))) }()
		return do()
	}, true)
	r.print()
}

func (r *fleetRun) several(name string, rounds int, prepare, do func() error) {
	for range rounds {
		r.time(name, prepare, do, false)
		r.time(name, prepare, do, true)
	}
}

func (r *fleetRun) time(name string, prepare, do func() error, watched bool) {
	if r.err == nil {
		r.err = r.try(name, prepare, do, watched)
	}
}

func (r *fleetRun) try(name string, prepare, do func() error, watched bool) error {
	r.name = name
	if err := prepare(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if watched {
		if _, err := r.o.do("watch"); err != nil {
			return err
		}
	}
	runtime.GC() // collects the garbage of earlier measurements
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := float64(time.Since(began))
	if !watched {
		r.times = append(r.times, took)
		return nil
	}
	answer, err := r.o.do("end")
	if err != nil {
		return err
	}
	var command, ping time.Duration
	var which string
	if _, err := fmt.Sscan(answer, &command, &which, &ping); err != nil {
		return err
	}
	if command > r.worst.command {
		r.worst.command, r.worst.name = command, which
	}
	r.worst.ping = max(r.worst.ping, ping)
	return nil
}

func (r *fleetRun) print() {
	if r.err != nil {
		return
	}
	slices.Sort(r.times)
	least, median := "", ""
	if n := len(r.times); n > 0 {
		least, median = duration(r.times[0]), duration(r.times[n/2])
	}
	fmt.Fprintf(r.w, "| %s | %s | %s | %s | %s | %s |\n", r.name, least, median, duration(float64(r.worst.command)), r.worst.name, duration(float64(r.worst.ping)))
	*r = fleetRun{w: r.w, o: r.o}
}
