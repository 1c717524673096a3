//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gotheus/gotheus"
)

// worker is the state of a child process.
type worker struct {
	list []*instance
	busy *busy    // work in the background, see departures.go and partial.go
	look *looker  // see lookups.go
	poll *polling // see deletions.go
}

// operation executes a request with arguments in JSON.
type operation func(w *worker, args json.RawMessage) (any, error)

// op returns an operation whose arguments are an A.
func op[A any](f func(w *worker, args A) (any, error)) operation {
	return func(w *worker, raw json.RawMessage) (any, error) {
		var args A
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, err
		}
		return f(w, args)
	}
}

// none are no arguments.
type none struct{}

// operations are what a child can do. Those of single experiments are in their files.
var operations map[string]operation

func init() { // not a literal, since operations refer to it
	operations = map[string]operation{
		"open":    op(open),
		"grow":    op(grow),
		"count":   op(count),
		"flush":   op(flush),
		"close":   op(closeAll),
		"totals":  op(pageTotals),
		"samples": op(pageSamples),
		"stat":    op(stat),

		"oneshot":       op(oneshot),
		"busy":          op(startBusy),
		"idle":          op(endBusy),
		"lives":         op(lives),
		"delete":        op(deleteAll),
		"poll":          op(startPolling),
		"polled":        op(endPolling),
		"look":          op(startLooking),
		"looked":        op(endLooking),
		"rebind":        op(rebind),
		"timed totals":  op(timedTotals),
		"first totals":  op(firstTotals),
		"count and ack": op(countAndAck),
	}
}

// runWorker is main of a child process. It ends when its stdin does, without closing anything.
func runWorker() error {
	signal.Ignore(os.Interrupt) // the parent decides
	w := new(worker)
	fmt.Println("ready")
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var q request
		if err := json.Unmarshal(line, &q); err != nil {
			return err
		}
		var a reply
		f, ok := operations[q.Op]
		if !ok {
			return fmt.Errorf("there is no operation %q", q.Op)
		}
		result, err := f(w, q.Args)
		if err != nil {
			a.Error = err.Error()
		} else if a.Result, err = json.Marshal(result); err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return nil
		}
	}
}

// together is how many instances of a process do something at the same time.
const together = 4

// all calls f for all instances, and returns the first error.
func (w *worker) all(f func(i *instance) error) error {
	errs := make(chan error, len(w.list))
	turns := make(chan bool, together)
	var group sync.WaitGroup
	for _, i := range w.list {
		turns <- true
		group.Go(func() {
			defer func() { <-turns }()
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	if n := len(errs); n > 1 {
		return fmt.Errorf("%d of %d instances have failed, such as: %w", n, len(w.list), <-errs)
	} else if n == 1 {
		return <-errs
	}
	return nil
}

type openArgs struct {
	Place                           place
	Instances, Counters, Histograms int
	Job                             string
	Count                           bool
}

// open adds instances and binds them, one after the other, as processes of a fleet start. They
// count if they are to, and flush.
func open(w *worker, args openArgs) (any, error) {
	had := len(w.list)
	for range args.Instances {
		i := newInstance(args.Place, args.Job)
		i.grow(args.Counters, args.Histograms)
		w.list = append(w.list, i)
	}
	added := &worker{list: w.list[had:]}
	return nil, added.all(func(i *instance) error {
		err := i.bind(context.Background())
		if err == nil && args.Count {
			i.count(0, args.Counters, 1)
			err = i.reg.Flush(context.Background())
		}
		return err
	})
}

// grow makes series.
func grow(w *worker, counters int) (any, error) {
	return nil, w.all(func(i *instance) error { i.grow(counters, 0); return nil })
}

type countArgs struct {
	Instances      int // the first ones count; 0: all
	From, To, Step int // of the counters, see instance.count
}

// count counts, and flushes.
func count(w *worker, args countArgs) (any, error) {
	some := &worker{list: w.list}
	if args.Instances > 0 {
		some.list = w.list[:args.Instances]
	}
	return nil, some.all(func(i *instance) error {
		i.count(args.From, args.To, max(args.Step, 1))
		return i.reg.Flush(context.Background())
	})
}

// flush returns how long it took.
func flush(w *worker, _ none) (any, error) {
	began := time.Now()
	err := w.all(func(i *instance) error { return i.reg.Flush(context.Background()) })
	return time.Since(began), err
}

func closeAll(w *worker, _ none) (any, error) {
	list := w.list
	w.list = nil
	return nil, (&worker{list: list}).all(func(i *instance) error { return i.close(context.Background()) })
}

// waited calls f until there is a page, at least once, and until the limit has passed. It returns
// how long that took.
func waited(limit time.Duration, f func(ctx context.Context) error) (refused time.Duration, err error) {
	ctx := context.Background()
	for began := time.Now(); ; {
		if err = f(ctx); err == nil || !errors.Is(err, gotheus.ErrStale) {
			return time.Since(began), err
		}
		if time.Since(began) >= limit {
			return time.Since(began), fmt.Errorf("no page for %v: %w", limit, err)
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return time.Since(began), err
		}
	}
}

// pageTotals returns the totals of the first instance's page, and waits for one.
func pageTotals(w *worker, limit time.Duration) (any, error) {
	var t totals
	_, err := waited(limit, func(ctx context.Context) (err error) {
		t, err = w.list[0].totals(ctx)
		return err
	})
	return t, err
}

// sampled is a page, or the reason why there is none.
type sampled struct {
	Samples samples
	Refused string
}

// pageSamples returns the first instance's page, and does not wait for one.
func pageSamples(w *worker, _ none) (any, error) {
	s, err := w.list[0].samples(context.Background())
	if errors.Is(err, gotheus.ErrStale) {
		return sampled{Refused: err.Error()}, nil
	}
	return sampled{Samples: s}, err
}

// timed is a page and what it took.
type timed struct {
	Totals    totals
	Time, CPU time.Duration
	Bytes     int64 // that the process has received
}

// timedTotals measures a page of the first instance, once there is one.
func timedTotals(w *worker, limit time.Duration) (any, error) {
	var t timed
	_, err := waited(limit, func(ctx context.Context) (err error) {
		t, err = measured(func() (totals, error) { return w.list[0].totals(ctx) })
		return err
	})
	return t, err
}

// firstTotals measures an instance from Bind until it has made a page.
func firstTotals(w *worker, p place) (any, error) {
	return measured(func() (t totals, err error) {
		if _, err := open(w, openArgs{Place: p, Instances: 1}); err != nil {
			return t, err
		}
		_, err = waited(time.Minute, func(ctx context.Context) error {
			t, err = w.list[0].totals(ctx)
			return err
		})
		return t, err
	})
}

func measured(page func() (totals, error)) (t timed, err error) {
	began, cpu, bytes := time.Now(), cpuTime(), received.Load()
	t.Totals, err = page()
	t.Time, t.CPU, t.Bytes = time.Since(began), cpuTime()-cpu, received.Load()-bytes
	return t, err
}

// usage is what a process uses.
type usage struct {
	Heap, Resident float64 // bytes; the heap after a collection
}

func stat(*worker, none) (any, error) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), "\nVmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return nil, errors.New("/proc/self/status has no VmRSS")
	}
	kb, err := strconv.ParseFloat(fields[0], 64)
	return usage{float64(m.HeapAlloc), kb * 1024}, err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
