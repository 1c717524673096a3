//go:build linux

// Command fleet runs fleets of real processes against a real server, and prints figures in
// Markdown. It fails if a total is wrong, or if a figure breaks a rule.
//
//	go run ./internal/fleet                  # all experiments, with the default sizes
//	go run ./internal/fleet oneshots idle    # some
//
// The experiments are
//
//	oneshots    many processes that bind, count and close at the same time
//	idle        what the processes of a fleet cost that count nothing
//	departures  sums of floats, while processes are killed, close, and are paused
//	partial     each key and each field of the namespace is deleted once
//	deletions   very many series are made, deleted, and made again
//	lookups     the longest look-up of a new label set, whatever else happens
//	leftovers   what very many short lives leave in the server
//	pages       a page of a process, over many instances with many series
//	namespace   pages beside records that a stranger has written, of each hostile kind
//
// Each one starts a server of its own, which GOTHEUS_REDIS_SERVER can name, in a temporary
// directory. The command uses the public API alone, so that it also runs with other revisions of
// the library, for a comparison.
//
// The exit status is 0 if all is well, 1 if something is wrong, 2 for wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	oneshots    int
	idle        sizes
	idleGrowth  float64
	departures  int
	partial     int
	partialOnly *regexp.Regexp
	deletions   int
	script      time.Duration
	lookups     int
	lookupsFor  time.Duration
	lookup      time.Duration
	leftovers   int
	concurrency int
	pages       sizes
	pageSeries  int
	helpers     int

	namespaceSize float64
	alive         time.Duration // in departures and partial
	verbose       bool

	slow        time.Duration // alive in the others; 0: the default, as always but in tests
	out, stderr io.Writer
}

// sizes is a flag with numbers in ascending order.
type sizes []int

func (s *sizes) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(*s)), " ", ","), "[]")
}

func (s *sizes) Set(text string) error {
	*s = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number above zero", part)
		}
		*s = append(*s, n)
	}
	if !slices.IsSorted(*s) {
		return errors.New("must be in ascending order")
	}
	return nil
}

// experiment is one of those in the package comment.
type experiment struct {
	name string
	run  func(ctx context.Context, r *run) error
}

var experiments = []experiment{
	{"oneshots", oneshots},
	{"idle", idle},
	{"departures", departures},
	{"partial", partial},
	{"deletions", deletions},
	{"lookups", lookups},
	{"leftovers", leftovers},
	{"pages", pages},
	{"namespace", namespace},
}

func main() {
	if os.Getenv(envWorker) != "" {
		if err := runWorker(); err != nil {
			fmt.Fprintln(os.Stderr, "fleet: worker:", err)
			os.Exit(exitFailed)
		}
		return
	}
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

// defaults returns the options without any flags.
func defaults() *options {
	return &options{idle: sizes{100, 200, 400, 1000}, pages: sizes{100, 1000}, partialOnly: regexp.MustCompile("")}
}

func command(args []string, stdout, stderr io.Writer) int {
	o := defaults()
	o.out, o.stderr = stdout, stderr
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.oneshots, "oneshots", 500, "processes that live at the same time, in oneshots")
	flags.Var(&o.idle, "idle", "numbers of idle instances")
	flags.Float64Var(&o.idleGrowth, "idle-growth", 2, "how many times as much an idle instance of the largest fleet may cost as one of the smallest")
	flags.IntVar(&o.departures, "departures", 500, "departures")
	flags.IntVar(&o.partial, "partial", 0, "fields of each kind that are deleted, in partial; 0: all")
	flags.Func("partial-only", "regular expression for the kinds that are deleted in partial, such as '^heads'", func(text string) (err error) {
		o.partialOnly, err = regexp.Compile(text)
		return err
	})
	flags.IntVar(&o.deletions, "deletions", 1_000_000, "series that are deleted")
	flags.DurationVar(&o.script, "script", 0, "how long a script may take in deletions; 0: it is only reported")
	flags.IntVar(&o.lookups, "lookups", 100_000, "series of each process in lookups")
	flags.DurationVar(&o.lookupsFor, "lookups-for", 5*time.Second, "how long each phase of lookups takes")
	flags.DurationVar(&o.lookup, "lookup", 0, "how long a look-up may take in lookups; 0: it is only reported")
	flags.IntVar(&o.leftovers, "leftovers", 100_000, "short lives in leftovers")
	flags.IntVar(&o.concurrency, "concurrency", 50, "short lives at the same time")
	flags.Var(&o.pages, "pages", "numbers of instances in pages")
	flags.IntVar(&o.pageSeries, "page-series", 10_000, "series of each instance in pages")
	flags.IntVar(&o.helpers, "helpers", 4, "processes that instances are distributed over, in idle, leftovers and pages")
	flags.Float64Var(&o.namespaceSize, "namespace-size", 1, "how much a stranger writes in namespace, as a multiple of the usual")
	flags.DurationVar(&o.alive, "alive", time.Second, "parameter alive in departures, partial and namespace; interval is a twentieth of it")
	flags.BoolVar(&o.verbose, "v", false, "shows what the library logs, and how far experiments are")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	names, err := o.check(flags.Args())
	if err != nil {
		fmt.Fprintln(stderr, "fleet:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := 0
	for _, e := range experiments {
		if !slices.Contains(names, e.name) || ctx.Err() != nil {
			continue
		}
		for _, w := range perform(ctx, o, e) {
			fmt.Fprintf(stderr, "fleet: %s: %s\n", e.name, w)
			failed++
		}
	}
	if failed > 0 || ctx.Err() != nil {
		return exitFailed
	}
	return exitOK
}

// check returns the names of the experiments to run.
func (o *options) check(args []string) (names []string, err error) {
	for _, e := range experiments {
		names = append(names, e.name)
	}
	for _, a := range args {
		if !slices.Contains(names, a) {
			return nil, fmt.Errorf("%q is no experiment: these are %s", a, strings.Join(names, ", "))
		}
	}
	if len(args) > 0 {
		names = args
	}
	for _, n := range []int{o.oneshots, o.departures, o.deletions, o.lookups, o.leftovers, o.concurrency, o.pageSeries, o.helpers} {
		if n < 1 {
			return nil, errors.New("sizes must be above zero")
		}
	}
	if o.namespaceSize <= 0 {
		return nil, errors.New("-namespace-size must be above zero")
	}
	if o.alive < 200*time.Millisecond || o.lookupsFor <= 0 || o.idleGrowth < 1 || o.partial < 0 {
		return nil, errors.New("-alive must be at least 200ms, -idle-growth at least 1, -lookups-for above zero, -partial not negative")
	}
	return names, nil
}
