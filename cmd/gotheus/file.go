package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/shm"
	"github.com/gotheus/gotheus/store"
)

// The commands for shared-memory files. All but forget use no instance slot. All can run while
// processes use the file.

// fileArgs parses arguments of a command that takes a file and further ones.
func fileArgs(name, usage, text string, args []string, least, most int, stderr io.Writer) (rest []string, status int, ok bool) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "Usage: gotheus %s %s\n\n%s\n\nFILE is a file's name, the path given to the program, or its URL, as in shm:///dev/shm/shop.\n", name, usage, text)
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, exitOK, false
	case err != nil:
		return nil, exitUsage, false
	}
	if n := flags.NArg(); n < least || n > most {
		fmt.Fprintf(stderr, "gotheus %s: %s given\n", name, numbered(n, "argument", "arguments"))
		flags.Usage()
		return nil, exitUsage, false
	}
	return flags.Args(), exitOK, true
}

// failed prints an error and returns the status.
func failed(stderr io.Writer, command string, err error, status int) int {
	fmt.Fprintf(stderr, "gotheus %s: %s\n", command, printable(err.Error()))
	return status
}

// urlOf matches URLs other than those of shared memory, which resolve would take for paths.
var urlOf = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://|^heap:$`)

// resolve returns the path without the suffix, the file's name, and the options of a URL.
func resolve(arg string) (path, name string, o *shm.Options, err error) {
	path, o = arg, new(shm.Options)
	if strings.HasPrefix(arg, "shm:") {
		if path, o, err = shm.ParseURL(arg); err != nil {
			return "", "", nil, err
		}
	} else if urlOf.MatchString(arg) {
		return "", "", nil, fmt.Errorf("%s: only files of shared memory have something to look at, as in shm:///dev/shm/shop", store.RedactURL(arg))
	} else if _, err := os.Lstat(arg); err == nil { // including one that was set aside
		return strings.TrimSuffix(arg, shm.Suffix), arg, o, nil
	}
	path = strings.TrimSuffix(path, shm.Suffix)
	return path, path + shm.Suffix, o, nil
}

func runCheck(args []string, stdout, stderr io.Writer) int {
	args, status, ok := fileArgs("check", "FILE", `Verifies everything that a file of shared memory says. The exit status is 0 if all is well, 1 if something is damaged
or the file cannot be read.`, args, 1, 1, stderr)
	if !ok {
		return status
	}
	_, name, _, err := resolve(args[0])
	if err != nil {
		return failed(stderr, "check", err, exitUsage)
	}
	r, err := shm.Inspect(name)
	if err != nil {
		return failed(stderr, "check", err, exitFailed)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(stdout, printable(fmt.Sprint(p)))
	}
	if n := len(r.Problems); n > 0 {
		fmt.Fprintf(stdout, "%s: %s\n", printable(name), numbered(n, "problem", "problems"))
		return exitFailed
	}
	series := 0
	for _, f := range r.Families {
		series += len(f.Series)
	}
	fmt.Fprintf(stdout, "%s: all is well: %s, %d series, %d of %d bytes used\n", printable(name), numbered(len(r.Families), "family", "families"), series, r.Used, r.Limit)
	return exitOK
}

func runInspect(args []string, stdout, stderr io.Writer) int {
	args, status, ok := fileArgs("inspect", "FILE", `Lists families, series, instances and sizes of a file of shared memory, and says whether a process that opens it now goes
on with its values or begins from zero. The exit status is 0 if the file is there and sound, 1 if something is damaged, or
there is no file, or it cannot be read.`, args, 1, 1, stderr)
	if !ok {
		return status
	}
	path, name, o, err := resolve(args[0])
	if err != nil {
		return failed(stderr, "inspect", err, exitUsage)
	}
	if path+shm.Suffix == name {
		sayOutcome(stdout, path, o)
	}
	r, err := shm.Inspect(name)
	if err != nil {
		return failed(stderr, "inspect", err, exitFailed)
	}
	printReport(stdout, r)
	if len(r.Problems) > 0 {
		fmt.Fprintf(stdout, "\n%s: see gotheus check\n", numbered(len(r.Problems), "problem", "problems"))
		return exitFailed
	}
	return exitOK
}

// sayOutcome prints what opening the file would do with the values, with and without start=fresh.
func sayOutcome(w io.Writer, path string, o *shm.Options) {
	fresh := *o
	fresh.Fresh = true
	for _, c := range []struct {
		when string
		o    *shm.Options
	}{{"opened now", o}, {"opened now with start=fresh", &fresh}} {
		outcome, err := shm.Peek(path, c.o)
		if err != nil {
			fmt.Fprintf(w, "%-28s an error: %s\n", c.when+":", printable(err.Error()))
			continue
		}
		fmt.Fprintf(w, "%-28s %s\n", c.when+":", map[shm.Outcome]string{
			shm.Resume:      "it continues with its values (resume)",
			shm.Create:      "it is created, from zero (create)",
			shm.StartAfresh: "it begins from zero, since no process has it open (start afresh)",
			shm.Replace:     "it is set aside, since it is damaged, and a new one begins from zero (replace)",
		}[outcome])
	}
	fmt.Fprintln(w)
}

func printReport(out io.Writer, r *shm.Report) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "file\t%s\n", printable(r.Path))
	fmt.Fprintf(w, "made\t%s\n", r.Created.UTC().Format(time.RFC3339))
	fmt.Fprintf(w, "size\t%d bytes on disk, %d used, %d of them waste, limit %d\n", r.Size, r.Used, r.Waste, r.Limit)
	live := 0
	for _, i := range r.Instances {
		if i.Alive {
			live++
		}
	}
	fmt.Fprintf(w, "instances\t%d alive, %d dead\n\n", live, len(r.Instances)-live)
	if len(r.Instances) > 0 {
		fmt.Fprintln(w, "PROCESS\tPID\tHOST\tSINCE\tSTATE")
		for _, i := range r.Instances {
			fmt.Fprintf(w, "%d\t%d\t%q\t%s\t%s\n", i.Number, i.PID, i.Host, i.Start.UTC().Format(time.RFC3339), map[bool]string{true: "alive", false: "dead"}[i.Alive])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "FAMILY\tTYPE\tSERIES\tDELETED\tBYTES\tDECLARED")
	for _, f := range r.Families {
		kind := f.Family.Kind.String()
		if f.Family.Mode != backend.Shared {
			kind += ", " + f.Family.Mode.String()
		}
		declared := map[bool]string{true: "by a live process", false: "by none alive"}[f.Declared]
		if f.Family.Block.Role != 0 {
			kind, declared = "further words of "+kind, ""
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\n", printable(f.Family.Name), kind, len(f.Series), f.Deleted, f.Bytes, declared)
	}
	for _, f := range r.Families {
		if f.Family.Block.Role != 0 {
			continue
		}
		for _, s := range f.Series {
			if s != "" {
				fmt.Fprintf(w, "\n%s{%s}", printable(f.Family.Name), printable(s))
			} else {
				fmt.Fprintf(w, "\n%s", printable(f.Family.Name))
			}
		}
	}
	fmt.Fprintln(w)
}

func runForget(args []string, stdout, stderr io.Writer) int {
	args, status, ok := fileArgs("forget", "FILE NAME...", `Deletes the series of those families of these names that no live process has declared: what a former version of a program has
left. Families that are in use are not touched. The exit status is 1 if there is no file, or it has no metric of such a name.`, args, 2, 1000, stderr)
	if !ok {
		return status
	}
	path, name, o, err := resolve(args[0])
	if err != nil {
		return failed(stderr, "forget", err, exitUsage)
	}
	before, err := shm.Inspect(name) // unlike Open, it makes no file
	if err != nil {
		return failed(stderr, "forget", err, exitFailed)
	}
	o.Fresh, o.AnyFileSystem = false, true // it is there already
	b, err := shm.Open(path, o)
	if err != nil {
		return failed(stderr, "forget", err, exitFailed)
	}
	for _, family := range args[1:] {
		if !slices.ContainsFunc(before.Families, func(f shm.FamilyReport) bool { return f.Family.Name == family }) {
			status = failed(stderr, "forget", fmt.Errorf("%s: the file has no metric of this name", family), exitFailed)
			continue
		}
		n, err := b.Forget(family)
		fmt.Fprintf(stdout, "%s: %d series deleted\n", printable(family), n)
		if err != nil {
			status = failed(stderr, "forget", err, exitFailed)
		}
	}
	if err := b.Close(context.Background()); err != nil {
		status = failed(stderr, "forget", err, exitFailed)
	}
	return status
}
