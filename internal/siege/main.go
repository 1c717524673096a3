// Command siege lets one hostile client attack a service with metrics, beside an honest scraper,
// and prints what that costs, in Markdown.
//
//	go run ./internal/siege                     # all attacks
//	go run ./internal/siege -pages 50 stalled   # one of them
//
// The attacks are
//
//	accept     Accept headers as long as the server takes them, full of wildcards and exceptions
//	names      queries with thousands of name[], and with one that is very long
//	impatient  scrapes with a timeout of a millisecond, twenty times a second
//	stalled    connections that ask for the page, read none of it, and are renewed
//	values     requests whose path and User-Agent are new and long, and become label values
//	invalid    requests whose path and User-Agent are not UTF-8
//
// For each, a service is started as a process of its own: 2,000 series, a middleware, a counter
// with values that clients choose, and three collectors that take 100 to 300 ms. Its connections
// buffer 16 KiB, as those of distant clients may. An honest scraper reads one page after the other,
// some before the attack and some during it. A page is complete if it has all series and what all
// collectors give.
//
// The exit status is 0 if all honest pages were complete, 1 if not, 2 for wrong usage. It needs
// Linux's /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
)

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// options are the flags.
type options struct {
	pages, connections int
	out, stderr        io.Writer
}

// attack is one of those in the package comment. It goes on until ctx ends, and calls begun when
// its first requests have been sent.
type attack struct {
	name string
	run  func(ctx context.Context, s *service, o *options, begun func())
}

var attacks = []attack{
	{"accept", accept},
	{"names", manyNames},
	{"impatient", impatient},
	{"stalled", stalled},
	{"values", values},
	{"invalid", invalid},
}

func main() {
	if os.Getenv(envService) != "" {
		if err := serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "siege: service:", err)
			os.Exit(exitFailed)
		}
		return
	}
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}

func command(args []string, stdout, stderr io.Writer) int {
	o := &options{out: stdout, stderr: stderr}
	flags := flag.NewFlagSet("siege", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.pages, "pages", 20, "honest pages before an attack, and during it")
	flags.IntVar(&o.connections, "connections", 200, "connections in stalled")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	chosen, err := o.check(flags.Args())
	if err != nil {
		fmt.Fprintln(stderr, "siege:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed, err := o.besiege(ctx, chosen)
	if err != nil {
		fmt.Fprintln(stderr, "siege:", err)
		return exitFailed
	}
	if failed > 0 {
		fmt.Fprintln(stderr, "siege: honest pages that were not complete:", failed)
		return exitFailed
	}
	return exitOK
}

// check returns the attacks to run.
func (o *options) check(args []string) (chosen []attack, err error) {
	if o.pages < 1 || o.connections < 1 {
		return nil, errors.New("-pages and -connections must be above zero")
	}
	var known []string
	for _, a := range attacks {
		known = append(known, a.name)
		if len(args) == 0 || slices.Contains(args, a.name) {
			chosen = append(chosen, a)
		}
	}
	for _, name := range args {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q is no attack: these are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// besiege runs attacks, and returns how many honest pages were not complete.
func (o *options) besiege(ctx context.Context, chosen []attack) (failed int, err error) {
	fmt.Fprintln(o.out, "| attack | | complete | median | longest | CPU per second | peak memory | goroutines |")
	fmt.Fprintln(o.out, "|---|---|---|---|---|---|---|---|")
	for _, a := range chosen {
		n, err := o.run(ctx, a)
		if err != nil {
			return failed, fmt.Errorf("%s: %w", a.name, err)
		}
		failed += n
	}
	return failed, nil
}

// run starts a service, and measures it before an attack and during it.
func (o *options) run(ctx context.Context, a attack) (failed int, err error) {
	s, err := start(o.stderr)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	measure := func(when string) error {
		m, err := s.measure(ctx, o.pages)
		if err != nil {
			return err
		}
		failed += len(m.wrong)
		fmt.Fprintf(o.out, "| %s | %s | %s |\n", a.name, when, m)
		for _, w := range m.wrong {
			fmt.Fprintf(o.stderr, "siege: %s, %s: %s\n", a.name, when, w)
		}
		return nil
	}
	if err := measure("before"); err != nil {
		return failed, err
	}
	during, end := context.WithCancel(ctx)
	begun, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		a.run(during, s, o, func() { close(begun) })
	}()
	defer func() {
		end()
		<-over
	}()
	select {
	case <-begun:
	case <-ctx.Done():
		return failed, ctx.Err()
	}
	return failed, measure("during")
}
