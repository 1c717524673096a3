package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/store"
)

// settleLimit is how long after the load the killed worker's replacement may take to be ready, and
// all workers to answer.
const settleLimit = time.Minute

// demo is one run.
type demo struct {
	workers int
	length  time.Duration
	listen  string
	backend string
	json    bool

	stdout   io.Writer
	progress *printer
}

// runDemo is the sub-command.
func runDemo(args []string, stdout, stderr io.Writer) int {
	d := &demo{stdout: stdout}
	flags := flag.NewFlagSet("gotheus demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: gotheus demo [FLAGS]\n\n"+
			"Runs a small shop as several processes that share one port and one set of metrics, sends it\n"+
			"requests, kills one of the processes, and compares what every process shows with what was sent.\n"+
			"The exit status is 0 if nothing is missing and nothing is there twice.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	flags.IntVar(&d.workers, "workers", 4, "number of processes")
	flags.DurationVar(&d.length, "for", 10*time.Second, "how long requests are sent; 0: send none and serve until interrupted")
	flags.StringVar(&d.listen, "listen", "127.0.0.1:0", "address to serve at")
	flags.StringVar(&d.backend, "backend", "", "backend `URL`, such as shm:///dev/shm/shop, that nothing else uses meanwhile\n(default a file of the demo's own, removed at the end)")
	flags.BoolVar(&d.json, "json", false, "write the result as JSON; progress goes to stderr")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	if err := d.check(flags.Args()); err != nil {
		fmt.Fprintf(stderr, "gotheus demo: %v\n", err)
		return exitUsage
	}
	d.progress = &printer{w: stdout}
	if d.json {
		d.progress.w = stderr
	}
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// a second signal ends this process at once, and the workers clean up
	context.AfterFunc(ctx, stop)
	r, err := d.run(ctx)
	if r != nil && r.Workers != nil {
		r.OK = r.OK && err == nil // cleaning up may have failed
		err = errors.Join(err, d.report(r))
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "gotheus demo: interrupted before there was a result")
	case err != nil:
		fmt.Fprintf(stderr, "gotheus demo: %v\n", err)
	case r == nil || r.OK:
		return exitOK
	}
	return exitFailed
}

func (d *demo) report(r *result) error {
	if d.json {
		return writeJSON(d.stdout, r)
	}
	r.write(d.stdout)
	return nil
}

func (d *demo) check(extra []string) error {
	switch u, err := url.Parse(d.backend); {
	case len(extra) > 0:
		return fmt.Errorf("unexpected argument %q", argument(extra[0]))
	case d.workers < 1:
		return fmt.Errorf("-workers %d: there must be at least 1", d.workers)
	case d.length < 0:
		return fmt.Errorf("-for %v: must not be negative", d.length)
	case err != nil:
		return errors.New("-backend: this is not a URL: special characters in a password must be escaped, such as # as %23")
	case d.backend != "" && u.Scheme == "":
		return errors.New("-backend: must be a URL with a scheme, such as shm:///dev/shm/shop")
	}
	return nil
}

// run runs the demo. When it returns, there is no process and no file left. Without load there is
// no result.
func (d *demo) run(ctx context.Context) (r *result, err error) {
	l, err := net.Listen("tcp", d.listen)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	// Workers accept on it; this process only keeps it open, so that no connection is refused
	// while a worker is being replaced.
	file, err := inheritable(l.(*net.TCPListener))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var dir string
	if d.backend == "" {
		if dir, err = makeDir(); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, removeDir(dir)) }()
		// Slashes are the same in a path and in a URL where shm works.
		d.backend = (&url.URL{Scheme: "shm", Path: filepath.Join(dir, "shop"), RawQuery: "limit=16MiB"}).String()
	}
	shown := store.RedactURL(d.backend)
	addr := l.Addr().String()
	d.progress.printf("starting %d workers at http://%s/ with their metrics in %s\n", d.workers, addr, shown)
	env := append(os.Environ(), envURL+"="+d.backend, envDir+"="+dir)
	f, err := startFleet(d.workers, file, env, d.progress)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	workers, err := f.wait(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range workers {
		d.progress.printf("%s\n", p)
	}
	if d.length == 0 {
		s := &serving{Address: addr, Backend: shown, PID: os.Getpid(), Workers: results(workers, nil)}
		return nil, d.serve(ctx, f, s)
	}
	r = &result{Address: addr, Backend: shown, Deaths: []int{}}
	return r, d.measure(ctx, f, r)
}

// serve only waits; others send requests.
func (d *demo) serve(ctx context.Context, f *fleet, s *serving) error {
	if d.json {
		if err := writeJSON(d.stdout, s); err != nil {
			return err
		}
	}
	d.progress.printf("\nTry   curl http://%s/ http://%s/slow http://%s/fail\nand   curl http://%s/metrics\n"+
		"and   kill -9 %d\nInterrupt this to end it.\n", s.Address, s.Address, s.Address, s.Address, s.Workers[0].PID)
	err := f.failed(ctx)
	d.progress.printf("ending\n")
	return err
}

// measure sends requests, kills a worker meanwhile, and fills in the result.
func (d *demo) measure(ctx context.Context, f *fleet, r *result) error {
	workers, err := f.wait(ctx)
	if err != nil {
		return err
	}
	before, err := fetchPage(ctx, workers[0].admin)
	if err != nil {
		return err
	}
	clients := min(max(minClients, 2*d.workers), clientsMost)
	d.progress.printf("%d clients send requests for %v\n", clients, d.length)
	began := time.Now()
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	l := startLoad(loadCtx, clients, r.Address)
	victim, err := d.watch(ctx, f, l)
	stopLoad()
	t := l.wait()
	r.Seconds = time.Since(began).Seconds()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.Killed, r.KilledAnswers = victim.pid, t.servers[victim.server()]

	d.progress.printf("reading the page of every worker\n")
	settle, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	if workers, err = f.wait(settle); err != nil {
		return fmt.Errorf("waiting for all workers to be ready again: %w", err)
	}
	var readings []reading
	for _, p := range workers {
		page, err := fetchPage(settle, p.admin)
		if err != nil {
			return fmt.Errorf("reading the page of pid %d: %w", p.pid, err)
		}
		readings = append(readings, reading{p.pid, page})
		if p.place == victim.place {
			r.Replaced = p.pid
		}
	}
	r.Deaths = f.dead()
	r.Cut = l.cut.Load()
	r.Requests = l.done.Load() + r.Cut
	r.Workers = results(workers, t)
	// A client has one request at a time, which a dying worker can cut.
	r.verdict = compare(t, before, readings, uint64(clients*len(r.Deaths)))
	if late := l.late.Load(); late > 0 {
		r.ClientsAgree = false
		r.Problems = append(r.Problems, fmt.Sprintf("%d requests had no answer within %v, which is not for a worker's death", late, requestLimit))
	}
	r.OK = r.WorkersAgree && r.ClientsAgree
	return nil
}

// watch shows progress while the load runs, and kills a worker half-way.
func (d *demo) watch(ctx context.Context, f *fleet, l *load) (victim *process, err error) {
	half, end := time.After(d.length/2), time.After(d.length)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-half:
			if victim, err = f.kill(ctx); err != nil {
				return nil, err
			}
			d.progress.printf("killing worker %d, pid %d\n", victim.place+1, victim.pid)
		case <-tick.C:
			d.progress.printf("%7d requests, %d cut\n", l.done.Load()+l.cut.Load(), l.cut.Load())
		case <-end:
			if victim == nil { // both were due at once
				end = time.After(0)
				continue
			}
			return victim, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func results(workers []*process, t *tally) []workerResult {
	var list []workerResult
	for _, p := range workers {
		w := workerResult{PID: p.pid, Admin: p.admin}
		if t != nil {
			w.Answers = t.servers[p.server()]
		}
		list = append(list, w)
	}
	return list
}
