// Command gotheus demonstrates package gotheus, and inspects shared-memory files.
//
//	gotheus demo       runs a small shop as several processes and checks what it counts
//	gotheus check      verifies a file of shared memory
//	gotheus inspect    lists what a file of shared memory holds, and what opening it would do
//	gotheus forget     deletes what is left of metrics that no live process has
//
// The exit status of every sub-command is 0 if all is well; 1 if something is damaged, wrong or not
// found, or if the command could not do its work; and 2 if it was called in a wrong way. Errors are
// on stderr. What comes from files and other processes is shown with everything escaped that a
// terminal might take for an instruction.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/store"
)

// Exit statuses, see the package comment.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// command is a sub-command. run returns the exit status.
type command struct {
	name, summary string
	run           func(args []string, stdout, stderr io.Writer) int
}

var commands = []command{
	{"demo", "run a small shop as several processes and check what it counts", runDemo},
	{"check", "verify a file of shared memory", runCheck},
	{"inspect", "list what is in a file of shared memory, and say what opening it would do", runInspect},
	{"forget", "delete from a file what is left of metrics that no live process has", runForget},
}

func main() {
	// The shop's metrics are package-level variables, so that every sub-command has them. Only
	// the workers may put them into a backend.
	os.Unsetenv(gotheus.EnvBackend)
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == workerCommand { // for the demo's own use
		return runWorker(stdout, stderr)
	}
	out := &printableWriter{w: stdout}
	status := runCommand(args, out, &printableWriter{w: stderr})
	if out.err != nil && status == exitOK {
		fmt.Fprintln(stderr, "gotheus: writing the output:", out.err)
		return exitFailed
	}
	return status
}

func runCommand(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stdout)
		return exitOK
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		usage(stdout)
		return exitOK
	}
	for _, c := range commands {
		if c.name == name {
			return c.run(args, stdout, stderr)
		}
	}
	fmt.Fprintf(stderr, "gotheus: unknown command %q\n\n", argument(name))
	usage(stderr)
	return exitUsage
}

// argument returns an argument as messages show it: a URL may have a password.
func argument(arg string) string {
	if strings.ContainsAny(arg, ":@") {
		return store.RedactURL(arg)
	}
	return arg
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Usage: gotheus COMMAND [FLAGS]\n\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "  help     show this\n\n\"gotheus COMMAND -h\" shows the flags of a command.\n"+
		"Exit status: 0 if all is well; 1 if something is damaged, wrong or not found; 2 for wrong usage.\n")
}
