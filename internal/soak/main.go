//go:build linux

// Command soak runs a realistic service with metrics for as long as one likes, and fails if
// anything grows although the load is constant, or if a total is wrong.
//
//	go run ./internal/soak -backend shm -for 30m
//
// The service is several worker processes. Their tenants come, are used and get deleted; sessions
// come, are used and expire. Workers are deployed one by one, and now and then one is killed with
// kill -9. The first worker lives as long as the run, since it is the one that is measured. Three
// scrapers read pages of different workers, in different formats.
//
// From time to time all workers pause, and pages are compared with what they have acknowledged: the
// grand total, and for each distribution the sum over live and deleted tenants. Then the first
// worker is measured, and the backend. At the end, a line is fitted to each quantity, without the
// warm-up, and printed with its slope per hour.
//
// The exit status is 0 if all is well, 1 if something grows or is wrong, 2 for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// options are the flags.
type options struct {
	backend           string
	length, warmUp    time.Duration
	every             time.Duration
	workers, rate     int
	tenants, churn    int
	sessions          int
	deploy, kill      time.Duration
	out, progress     io.Writer
	quantitiesForTest *[]*quantity
}

func main() {
	if config := os.Getenv(envWorker); config != "" {
		if err := runWorker(config); err != nil {
			fmt.Fprintln(os.Stderr, "soak: worker:", err)
			os.Exit(exitFailed)
		}
		return
	}
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, stdout, stderr io.Writer) int {
	o := options{out: stdout, progress: stderr}
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.backend, "backend", "shm", "heap, shm or redis")
	flags.DurationVar(&o.length, "for", 30*time.Minute, "how long it runs")
	flags.DurationVar(&o.warmUp, "warm-up", 0, "what is left out at the beginning (default a fifth, and at least 30s)")
	flags.DurationVar(&o.every, "every", 0, "interval of checks and samples (default 5s, or less if there would be fewer than 100)")
	flags.IntVar(&o.workers, "workers", 4, "number of processes, at least 2")
	flags.IntVar(&o.rate, "rate", 1000, "operations per second and process")
	flags.IntVar(&o.tenants, "tenants", 200, "number of live tenants")
	flags.IntVar(&o.churn, "churn", 10, "tenants that are replaced at each check")
	flags.IntVar(&o.sessions, "sessions", 20, "new sessions per second")
	flags.DurationVar(&o.deploy, "deploy", 20*time.Second, "interval at which a worker is replaced")
	flags.DurationVar(&o.kill, "kill", 30*time.Second, "interval at which a worker is killed")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	if o.every == 0 {
		o.every = min(max(o.length/100, time.Second), 5*time.Second)
	}
	if o.warmUp == 0 {
		o.warmUp = max(o.length/5, 30*time.Second)
	}
	if err := o.check(flags.Args()); err != nil {
		fmt.Fprintln(stderr, "soak:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wrong, err := run(ctx, &o)
	if err != nil {
		fmt.Fprintln(stderr, "soak:", err)
		return exitFailed
	}
	for _, w := range wrong {
		fmt.Fprintln(stderr, "soak:", w)
	}
	if len(wrong) > 0 {
		return exitFailed
	}
	fmt.Fprintln(stdout, "nothing grows, and all totals are exact")
	return exitOK
}

func (o *options) check(extra []string) error {
	switch {
	case len(extra) > 0:
		return fmt.Errorf("unexpected argument %q", extra[0])
	case o.backend != "heap" && o.backend != "shm" && o.backend != "redis":
		return fmt.Errorf("-backend %q: must be heap, shm or redis", o.backend)
	case o.workers < 2:
		return errors.New("-workers: must be at least 2, one to measure and one to replace")
	case o.length <= 0 || o.warmUp < 0 || o.every <= 0 || o.deploy <= 0 || o.kill <= 0:
		return errors.New("durations must be positive")
	case o.length < o.warmUp+minSamples*o.every:
		return fmt.Errorf("-for %v: too short for a warm-up of %v and %d samples at intervals of %v", o.length, o.warmUp, minSamples, o.every)
	case o.rate < int(time.Second/tick):
		return fmt.Errorf("-rate: must be at least %d", time.Second/tick)
	case o.tenants < 1 || o.churn < 0 || o.churn > o.tenants || o.sessions < 0:
		return errors.New("-tenants must be positive, -churn at most that, and -sessions not negative")
	}
	return nil
}
