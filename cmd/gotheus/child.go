package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// What a worker process and the fleet that starts it agree on:
//
//   - descriptor 3 is the listener that all workers share,
//   - the worker's first line on stdout is wordReady with the address of its admin listener, or
//     wordFailed with the quoted error,
//   - the worker ends when its stdin does. If it has not read wordStop there, its parent died
//     without a chance to clean up, and the worker removes the demo's directory.
const (
	workerCommand = "demo-worker"
	envURL        = "GOTHEUS_DEMO_BACKEND" // not an argument, since all users can read those
	envDir        = "GOTHEUS_DEMO_DIR"
	listenerFD    = 3

	wordReady  = "ready"
	wordFailed = "failed"
	wordStop   = "stop"

	// endLimit is for a worker that has been told to end. It is less than the stopLimit of its
	// parent.
	endLimit = 15 * time.Second

	dirPrefix = "gotheus-demo-"
)

// runWorker is main of a worker process.
func runWorker(stdout, stderr io.Writer) int {
	// A terminal sends its signals to all processes; the parent decides what they mean. Writing
	// to a dead parent must not kill the worker either.
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	f := os.NewFile(listenerFD, "listener")
	public, err := net.FileListener(f)
	if err != nil {
		fmt.Fprintf(stderr, "gotheus: %s is for the use of gotheus demo: %v\n", workerCommand, err)
		return exitUsage
	}
	f.Close()
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintf(stdout, "%s %q\n", wordFailed, err.Error())
		return exitFailed
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		last, _ := io.ReadAll(os.Stdin)
		if strings.TrimSpace(string(last)) != wordStop {
			removeDir(os.Getenv(envDir))
		}
		cancel()
		time.AfterFunc(endLimit, func() {
			debug.SetTraceback("all")
			panic("this worker should have ended by now")
		})
	}()
	err = serveShop(ctx, os.Getenv(envURL), public, admin, func() {
		fmt.Fprintln(stdout, wordReady, admin.Addr())
	})
	if err != nil {
		fmt.Fprintln(stderr, err) // the parent reads stdout only until the worker is ready
		fmt.Fprintf(stdout, "%s %q\n", wordFailed, err.Error())
		return exitFailed
	}
	return exitOK
}

// makeDir makes a private directory, on a file system in memory if there is one.
func makeDir() (string, error) {
	dir, err := os.MkdirTemp("/dev/shm", dirPrefix)
	if err != nil {
		dir, err = os.MkdirTemp("", dirPrefix)
	}
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o700) // whatever the umask is
}

// removeDir removes what makeDir made, and nothing else.
func removeDir(dir string) error {
	if !strings.HasPrefix(filepath.Base(dir), dirPrefix) {
		return nil
	}
	return os.RemoveAll(dir)
}
