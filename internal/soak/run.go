//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	startLimit   = 30 * time.Second // for a worker to be ready
	stopLimit    = 30 * time.Second // for a worker to end when it is told to
	requestLimit = 30 * time.Second
)

// worker is a process.
type worker struct {
	number int
	addr   string
	acks   string
	safe   uint64 // what it had counted when it paused last
	cmd    *exec.Cmd
	stdin  io.Closer
	ledger *ledger // the backend's, or its own
}

// soak is one run.
type soak struct {
	*options
	dir, exe string
	place    *place
	ledger   *ledger // nil: each worker has its own
	began    time.Time
	workers  []*worker
	started  int
	first    int // the oldest live tenant

	whole   []*quantity // of pages and of the first worker
	process []*quantity

	addrs   []atomic.Pointer[string] // of workers, for scrapers
	pausing sync.RWMutex             // locked while workers pause; scrapes hold it for reading
	scrapes atomic.Int64
	missed  atomic.Int64 // scrapes of workers that were being replaced

	deploys, kills, checks int
	mu                     sync.Mutex
	wrong                  []string
	floor                  float64 // the highest grand total on a page
}

// report adds something that is wrong. The first ones are enough.
func (s *soak) report(problems ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range problems {
		if len(s.wrong) < 20 {
			s.wrong = append(s.wrong, fmt.Sprintf("after %v: %s", time.Since(s.began).Round(time.Second), p))
		}
	}
}

// run returns what is wrong or grows. The error is about the run itself.
func run(ctx context.Context, o *options) (wrong []string, err error) {
	s := &soak{options: o, addrs: make([]atomic.Pointer[string], o.workers)}
	if s.exe, err = os.Executable(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("/dev/shm", "gotheus-soak-"); err != nil {
		if s.dir, err = os.MkdirTemp("", "gotheus-soak-"); err != nil {
			return nil, err
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.place, err = newPlace(o.backend, s.dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.place.close()) }()
	if s.place.shared {
		s.ledger = newLedger()
	}
	defer s.killAll()
	s.began = time.Now()
	for place := range o.workers {
		w, err := s.start()
		if err != nil {
			return nil, err
		}
		s.workers = append(s.workers, w)
		s.addrs[place].Store(&w.addr)
	}
	s.whole = []*quantity{
		{name: "heap", unit: "KB", slack: 256, share: .05},
		{name: "goroutines", slack: 3},
		{name: "CPU per page", unit: "µs", slack: 100, share: .25},
		{name: "page", unit: "B", slack: 512, share: .03},
		{name: "page time", unit: "µs", slack: 500, share: .25},
	}
	s.process = processQuantities()

	stop := make(chan struct{})
	var scrapers sync.WaitGroup
	for i := range 3 {
		scrapers.Go(func() { s.scrape(ctx, stop, i) })
	}
	err = s.loop(ctx)
	close(stop)
	scrapers.Wait()
	for _, w := range s.workers {
		if err == nil {
			err = s.end(w)
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	list := append(append(s.process, s.whole...), s.place.quantities...)
	if o.quantitiesForTest != nil {
		*o.quantitiesForTest = list
	}
	fmt.Fprintf(o.out, "%s: %v with %d workers; %d deploys, %d kills, %d checks, %d tenants, %d scrapes; workers that were just ending missed %d more\n\n",
		o.backend, time.Since(s.began).Round(time.Second), o.workers, s.deploys, s.kills, s.checks, s.first+o.tenants, s.scrapes.Load(), s.missed.Load())
	growing := judge(o.out, list, o.warmUp)
	return append(s.wrong, growing...), nil
}

// loop does what is due until the end.
func (s *soak) loop(ctx context.Context) error {
	end := s.began.Add(s.length)
	check, deploy, kill := s.began, s.began.Add(s.deploy), s.began.Add(s.kill)
	for {
		next := check
		for _, t := range []time.Time{deploy, kill, end} {
			if t.Before(next) {
				next = t
			}
		}
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		switch next {
		case end:
			return nil
		case check:
			err = s.check(ctx)
			check = later(check, s.every)
		case deploy:
			s.deploys++
			err = s.replace(ctx, 1+s.deploys%s.replaced(), s.end)
			deploy = later(deploy, s.options.deploy)
		case kill:
			s.kills++
			err = s.replace(ctx, 1+rand.IntN(s.replaced()), s.killNow)
			kill = later(kill, s.options.kill)
		}
		if err != nil {
			return err
		}
	}
}

// replaced is the number of workers that are replaced, which are all but the first.
func (s *soak) replaced() int { return len(s.workers) - 1 }

// later returns the next time at an interval that has not passed yet.
func later(t time.Time, every time.Duration) time.Time {
	for now := time.Now(); !t.After(now); {
		t = t.Add(every)
	}
	return t
}

// start starts a worker and waits until it is ready. It pauses.
func (s *soak) start() (*worker, error) {
	w := &worker{number: s.started, acks: filepath.Join(s.dir, fmt.Sprint("acks-", s.started)), ledger: s.ledger}
	s.started++
	if w.ledger == nil {
		w.ledger = newLedger()
	}
	config, err := json.Marshal(workerConfig{URL: s.place.url, Acks: w.acks, Number: w.number, Rate: s.rate, Sessions: s.sessions})
	if err != nil {
		return nil, err
	}
	w.cmd = exec.Command(s.exe)
	w.cmd.Env = append(os.Environ(), envWorker+"="+string(config))
	w.cmd.Stderr = s.progress
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(startLimit, func() { w.cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("worker %d did not start: %w", w.number, errors.Join(err, w.cmd.Wait()))
	}
	w.addr = strings.TrimSpace(line)
	return w, nil
}

// replace starts a worker in a place, and then ends the former one, as rolling deploys do.
func (s *soak) replace(ctx context.Context, place int, end func(*worker) error) error {
	w, err := s.start()
	if err != nil {
		return err
	}
	old := s.workers[place]
	s.workers[place] = w
	s.addrs[place].Store(&w.addr)
	if err := s.resume(ctx, w); err != nil {
		return err
	}
	return end(old)
}

// end ends a worker gracefully.
func (s *soak) end(w *worker) error {
	w.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopLimit, func() { w.cmd.Process.Kill() })
	defer late.Stop()
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("worker %d was told to end: %w", w.number, err)
	}
	_, done, err := readAcks(w.acks)
	if err != nil {
		return err
	}
	w.ledger.end(done)
	return os.Remove(w.acks)
}

// killNow kills a worker. What it has counted survives it, except in a store, where the last
// interval is lost: what it had published when it paused is certain.
func (s *soak) killNow(w *worker) error {
	w.cmd.Process.Kill()
	w.cmd.Wait() // whose error says that it was killed
	begun, done, err := readAcks(w.acks)
	if err != nil {
		return err
	}
	if s.backend == "redis" {
		done = w.safe
	}
	w.ledger.kill(done, begun)
	return os.Remove(w.acks)
}

func (s *soak) killAll() {
	for _, w := range s.workers {
		if w.cmd.ProcessState == nil {
			w.cmd.Process.Kill()
			w.cmd.Wait()
		}
	}
}

var client = &http.Client{Timeout: requestLimit, Transport: &http.Transport{DisableKeepAlives: true}}

// get reads a page or the answer to a command.
func get(ctx context.Context, addr, path, accept string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body[:min(len(body), 500)])
	}
	return body, err
}

// call sends a command to a worker.
func call(ctx context.Context, w *worker, command string, answer any) error {
	body, err := get(ctx, w.addr, command, "")
	if err != nil {
		return fmt.Errorf("worker %d: %w", w.number, err)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}

func (s *soak) tenantsFrom(path string, first, n int) string {
	return path + "?first=" + strconv.Itoa(first) + "&n=" + strconv.Itoa(n)
}

func (s *soak) resume(ctx context.Context, w *worker) error {
	return call(ctx, w, s.tenantsFrom("/resume", s.first, s.tenants), nil)
}

// check lets all workers pause, compares a page, measures, and replaces some tenants.
func (s *soak) check(ctx context.Context) error {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	errs := make([]error, len(s.workers))
	var all sync.WaitGroup
	for i, w := range s.workers { // at once, since each waits until it has published
		all.Go(func() { errs[i] = call(ctx, w, "/pause", &w.safe) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var total uint64
	for _, w := range s.workers {
		total += w.safe
	}
	if s.checks > 0 { // before the first one, nobody has worked
		if err := s.compare(ctx, total); err != nil {
			return err
		}
	}
	s.checks++
	for _, w := range s.workers {
		if err := s.resume(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) compare(ctx context.Context, total uint64) error {
	readers := s.workers // of what each has
	if s.ledger != nil {
		readers = []*worker{s.workers[s.checks%len(s.workers)]}
	}
	for _, w := range readers {
		body, err := get(ctx, w.addr, "/metrics", "text/plain")
		if err != nil {
			return err
		}
		p, err := parse(string(body))
		if err != nil {
			return err
		}
		done := total
		if s.ledger == nil {
			done = w.safe
		}
		s.report(w.ledger.check(p, done, s.first, s.first+s.tenants)...)
	}
	if err := s.measure(ctx); err != nil {
		return err
	}
	for i, w := range readers {
		if err := call(ctx, w, s.tenantsFrom("/delete", s.first, s.churn), nil); err != nil {
			return err
		}
		if i == 0 || s.ledger == nil {
			w.ledger.forget(s.first, s.churn)
		}
	}
	s.first += s.churn
	return nil
}

// measure samples everything. Workers and scrapers pause.
func (s *soak) measure(ctx context.Context) error {
	now, w := time.Since(s.began), s.workers[0]
	var o own
	if err := call(ctx, w, "/measure", &o); err != nil {
		return err
	}
	var size int
	var took time.Duration
	for range 3 { // the least is not disturbed by others
		start := time.Now()
		body, err := get(ctx, w.addr, "/metrics", "text/plain")
		if err != nil {
			return err
		}
		if d := time.Since(start); took == 0 || d < took {
			size, took = len(body), d
		}
	}
	process, err := measureProcess(w.cmd.Process.Pid)
	if err != nil {
		return err
	}
	backend, err := s.place.measure()
	if err != nil {
		return err
	}
	add := func(list []*quantity, values ...float64) {
		for i, q := range list {
			q.add(now, values[i])
		}
	}
	add(s.whole, float64(o.Heap)/1024, float64(o.Goroutines), float64(o.CPU)/1e3, float64(size), float64(took)/1e3)
	add(s.process, process...)
	add(s.place.quantities, backend...)
	return nil
}

// formats are those that the scrapers ask for.
var formats = []string{
	"text/plain",
	"application/openmetrics-text;version=1.0.0",
	"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}

// scrape reads pages of changing workers at an interval. Where workers share a total, it never goes
// down, whichever of them shows it.
func (s *soak) scrape(ctx context.Context, stop chan struct{}, number int) {
	ticks := time.NewTicker(s.every/4 + time.Duration(number)*s.every/8)
	defer ticks.Stop()
	for i := number; ; i++ {
		select {
		case <-ticks.C:
		case <-stop:
			return
		}
		s.scrapeOnce(ctx, i%len(s.addrs), formats[number])
	}
}

func (s *soak) scrapeOnce(ctx context.Context, place int, format string) {
	s.pausing.RLock()
	defer s.pausing.RUnlock()
	s.mu.Lock()
	floor := s.floor
	s.mu.Unlock()
	addr := s.addrs[place].Load()
	body, err := get(ctx, *addr, "/metrics", format)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case s.addrs[place].Load() != addr, place != 0 && s.isRefused(err):
		s.missed.Add(1)
		return
	default:
		s.report(err.Error())
		return
	}
	s.scrapes.Add(1)
	if strings.Contains(format, "protobuf") {
		return
	}
	p, err := parse(string(body))
	if err != nil {
		s.report(err.Error())
		return
	}
	if s.ledger == nil {
		return
	}
	if p.grand < floor {
		s.report(fmt.Sprintf("a page has a total of %v after one with %v", p.grand, floor))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, p.grand)
}

func (s *soak) isRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}
