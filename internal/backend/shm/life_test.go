//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bufio"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

var lives = flag.Int("lives", 100, "how many short-lived processes TestShortLives starts")

func init() {
	workers["life"] = lifeWorker
	workers["exec"] = execWorker
}

// startWorker starts the test program as another process and returns it with its output.
func startWorker(t testing.TB, kind string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "GOTHEUS_SHM_WORKER="+kind), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, bufio.NewReader(out)
}

func workerOpen() *Backend {
	b, err := Open(os.Getenv("FILE"), &Options{AnyFileSystem: os.Getenv("ANY") != "", Limit: 8 << 20})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	return b
}

func workerCells(b *Backend, f *backend.Family, labels string) backend.Words {
	w, err := b.Cells(f, labels)
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	return w
}

// lifeWorker counts once, sets a gauge, and exits without closing the backend.
func lifeWorker(string) {
	b := workerOpen()
	workerCells(b, requests, `code="200",method="GET"`)[0].Add(1)
	workerCells(b, campaignBusy, "")[backend.GaugeValue].Store(math.Float64bits(1))
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// Short-lived processes, one after another and many at once, exit without closing the backend. The
// file stays as small as its series allow, and a scrape looks at no more records, parts and
// instance slots.
//
// The long run: go test ./internal/backend/shm -run TestShortLives -lives 10000 -v
func TestShortLives(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, nil)
	run := func() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GOTHEUS_SHM_WORKER=life", "FILE="+path, "ANY=1")
		out, _ := cmd.CombinedOutput()
		if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() {
			t.Errorf("%v: %s", cmd.ProcessState, out)
		}
	}
	run()
	walk(t, b)
	before, looked := b.mem.u64(offTail).Load(), scraped(t, b)
	began := time.Now()
	for range *lives {
		run()
	}
	took := time.Since(began)
	if after := b.mem.u64(offTail).Load(); after != before {
		t.Errorf("one process after the other: the records end at %d, before at %d", after, before)
	}
	if now := scraped(t, b); now != looked {
		t.Errorf("one process after the other: a scrape looks at %+v, before at %+v", now, looked)
	}
	t.Logf("%d processes one after the other: %v each; a scrape looks at %+v", *lives, took/time.Duration(*lives), looked)

	atOnce := min(*lives, 200)
	var wait sync.WaitGroup
	for range atOnce {
		wait.Go(run)
	}
	wait.Wait()
	got := walk(t, b)
	want := fmt.Sprintf(`requests_total{code="200",method="GET"} %d`, 1+*lives+atOnce)
	if len(got) != 2 || got[1] != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// At most a part and a declaration for each of the concurrent processes.
	most := before + uint64(atOnce)*(128+2*192)
	if after := b.mem.u64(offTail).Load(); after > most {
		t.Errorf("%d at once: the records end at %d, more than %d", atOnce, after, most)
	}
	now := scraped(t, b)
	declared := (atOnce+1)/declaredSlots + 1 // declaration records per family
	if now.parts > looked.parts+atOnce || now.slots > looked.slots+atOnce || now.asks > 0 || now.records > looked.records+atOnce+2*declared {
		t.Errorf("%d at once: a scrape looks at %+v, before at %+v", atOnce, now, looked)
	}
	t.Logf("%d at once: a scrape looks at %+v", atOnce, now)
	if n := liveParts(t, b); n != 0 {
		t.Errorf("the gauges of %d dead processes count", n)
	}
	checkFileNow(t, b.Path())
}

// work counts what a scrape has to look at, and how many instances the next one has to ask the
// kernel about.
type work struct{ records, parts, slots, asks int }

func scraped(t *testing.T, b *Backend) (w work) {
	t.Helper()
	walk(t, b)
	for i := range b.readHeads {
		for _, err := range b.chain(uint64(i), b.readHeads[i], 0) {
			if err != nil {
				t.Fatal(err)
			}
			w.records++
		}
	}
	for _, g := range b.Walk() {
		for i := range g.Series {
			if g.Parts != nil {
				w.parts += len(g.Parts[i].List())
			}
		}
	}
	w.slots = len(b.partOwners)
	for slot := range b.partOwners {
		if id := b.mem.u64(b.instance(slot) + insID).Load(); id != b.dead[slot] {
			w.asks++
		}
	}
	return w
}

// execWorker replaces itself by another program with exec, as an upgrade does, and leaves a child.
func execWorker(string) {
	b := workerOpen()
	workerCells(b, requests, `code="200",method="GET"`)[0].Add(1)
	workerCells(b, campaignBusy, "")[backend.GaugeValue].Store(math.Float64bits(1))
	if os.Getenv("AGAIN") == "" {
		os.Setenv("AGAIN", "1")
		// the death signal is for the end of the thread that has started the child
		runtime.LockOSThread()
		// it inherits nothing, and is an instance of its own
		child := exec.Command(os.Args[0])
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := child.Start(); err != nil {
			fmt.Println(err)
		}
		fmt.Println(syscall.Exec(os.Args[0], os.Args, os.Environ()))
		os.Exit(3)
	}
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour) // until it is killed
	}
}

// An instance ends with exec: its gauges are gone, its counts stay, and its locks do not live on in
// a child.
func TestExec(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	b := open(t, path, nil)
	cmd, out := startWorker(t, "exec", "FILE="+path, "ANY=1")
	for range 2 {
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Fatal(line, err)
		}
	}
	busy := func() int {
		if got := walk(t, b); got[1] != `requests_total{code="200",method="GET"} 3` {
			t.Errorf("got %q", got)
		}
		return liveParts(t, b)
	}
	if n := busy(); n != 2 {
		t.Errorf("%d live parts, want that of the new program and that of the child", n)
	}
	cmd.Process.Signal(syscall.SIGSTOP) // a stopped process is alive
	if n := busy(); n != 2 {
		t.Errorf("%d live parts while one is stopped", n)
	}
	cmd.Process.Kill()
	cmd.Wait()
	// the child's end follows its parent's
	backendtest.Eventually(t, "no part of a dead process counts", func() bool { return busy() == 0 })
}

// The lock of an instance that was found dead is not queried again, but that of its successor is.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop")
	a := open(t, path, nil)
	for range 3 {
		b := open(t, path, nil)
		cells(t, b, campaignBusy, "")
		if n := liveParts(t, a); n != 1 {
			t.Errorf("%d live", n)
		}
		die(b)
		for range 2 {
			if w := scraped(t, a); liveParts(t, a) != 0 || w.asks != 0 || w.slots != 1 {
				t.Errorf("%d live after a death, %+v", liveParts(t, a), w)
			}
		}
	}
}

// Labels that are damaged after they were read do not change pages: these have copies.
func TestLabelsDamagedAfterReading(t *testing.T) {
	t.Parallel()
	const series = 8
	b := open(t, filepath.Join(t.TempDir(), "shop"), nil)
	for i := range series {
		cells(t, b, smallBusy, fmt.Sprintf(`x="%d"`, i))
		cells(t, b, requests, fmt.Sprintf(`code="%d",method=""`, i))
	}
	want := walk(t, b)
	for _, g := range b.Walk() {
		for i, row := range g.Series {
			at := b.mem.offsetOf(row.Words) - recHeader
			if g.Parts != nil {
				at = b.seriesOf(g.Parts[i].List()[0].Words)
			}
			r, err := b.at(at)
			if err != nil || r.text != row.Labels {
				t.Fatal(r, err)
			}
			copy(b.mem[r.textAt:], "\xff\n\"")
		}
	}
	if got := walk(t, b); !slices.Equal(got, want) || len(got) != 2*series {
		t.Errorf("shown: %q, before the damage: %q", got, want)
	}
}
