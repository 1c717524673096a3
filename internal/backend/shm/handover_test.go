//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

func init() {
	workers["handover"] = handoverWorker
	workers["namespace"] = namespaceWorker
}

// handoverWorker serves connections from a listener that it creates or inherits: it counts each
// one, then answers with its process id. At a line of input it starts the next program, which
// inherits the listener. At another line it stops accepting, finishes what it has accepted, and
// ends.
func handoverWorker(string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	b := workerOpen()
	served := workerCells(b, requests, `code="200",method="GET"`)
	workerCells(b, campaignBusy, "")[backend.GaugeValue].Store(math.Float64bits(1))
	var l net.Listener
	var err error
	if os.Getenv("NEXT") == "" { // this is the next one
		l, err = net.FileListener(os.NewFile(3, "listener"))
	} else {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	fail(err)
	fmt.Println(l.Addr())
	var accepted sync.WaitGroup
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Go(func() {
				defer c.Close()
				served[0].Add(1)
				fmt.Fprintln(c, os.Getpid())
			})
		}
	}()
	in := bufio.NewReader(os.Stdin)
	if next := os.Getenv("NEXT"); next != "" {
		in.ReadString('\n')
		f, err := l.(*net.TCPListener).File()
		fail(err)
		cmd := exec.Command(next)
		cmd.Env = append(os.Environ(), "NEXT=")
		cmd.ExtraFiles = []*os.File{f}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Stdin = os.NewFile(3, "input of the next")
		fail(cmd.Start())
		f.Close()
	}
	in.ReadString('\n')
	l.Close()
	<-ended
	accepted.Wait()
	fmt.Println("drained")
}

// copyProgram copies the running test program. No process may be started while the copy is open for
// writing: a child between fork and exec would hold it open, too, and Linux does not execute a file
// that is open for writing ("text file busy").
func copyProgram(t *testing.T, dir, name string) string {
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	syscall.ForkLock.RLock()
	err = os.WriteFile(path, program, 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A seamless upgrade: the old program passes its listener to the new one, both accept and count at
// the same time, then the old one ends. Every answered request is in the total.
func TestHandover(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shop")
	b := open(t, path, nil)
	next := copyProgram(t, dir, "next")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GOTHEUS_SHM_WORKER=handover", "FILE="+path, "ANY=1", "NEXT="+next)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	nextIn, nextOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{nextIn}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	nextIn.Close()
	t.Cleanup(func() {
		nextOut.Close() // the next one ends with its input
		cmd.Process.Kill()
		cmd.Wait()
	})
	out := bufio.NewReader(pipe)
	line := func() string {
		s, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(s, err)
		}
		return strings.TrimSpace(s)
	}
	addr := line()

	var answered uint64
	by := make(map[int]int)
	ask := func() {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text, err := io.ReadAll(c)
		pid, notPID := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || notPID != nil {
			t.Fatalf("a request got no answer: %q, %v", text, err)
		}
		answered++
		by[pid]++
	}
	for range 50 {
		ask()
	}
	fmt.Fprintln(in, "upgrade")
	if got := line(); got != addr {
		t.Fatalf("the next program listens at %q, not at %q", got, addr)
	}
	both := func() bool {
		return len(by) == 2 && by[cmd.Process.Pid] > 100 && answered > uint64(by[cmd.Process.Pid]+50)
	}
	for n := 0; !both(); n++ {
		if ask(); n == 50_000 {
			t.Fatalf("one of the two serves no requests: %v", by)
		}
	}
	total := func() uint64 { return cells(t, b, requests, `code="200",method="GET"`)[0].Load() }
	if got := total(); got != answered {
		t.Errorf("while both serve: %d counted, %d answered", got, answered)
	}
	if n := liveParts(t, b); n != 2 {
		t.Errorf("while both serve: %d gauges", n)
	}
	fmt.Fprintln(in, "finish")
	if got := line(); got != "drained" {
		t.Fatal(got)
	}
	// The next process keeps its output open, so Wait would not return.
	if _, err := cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	before := by[cmd.Process.Pid]
	for range 50 {
		ask()
	}
	if got := total(); got != answered || by[cmd.Process.Pid] != before {
		t.Errorf("after the upgrade: %d counted, %d answered: %v", got, answered, by)
	}
	if n := liveParts(t, b); n != 1 {
		t.Errorf("after the upgrade: %d gauges", n)
	}
	checkFileNow(t, b.Path())
	t.Logf("answered by process: %v", by)
}

// liveParts returns the number of parts of live instances.
func liveParts(t testing.TB, b *Backend) (n int) {
	t.Helper()
	walk(t, b)
	for _, g := range b.Walk() {
		for i := range g.Series {
			if g.Parts == nil {
				continue
			}
			for _, p := range g.Parts[i].List() {
				if p.Live() {
					n++
				}
			}
		}
	}
	return n
}

// namespaceWorker sees the file's directory under another path, as in a container.
func namespaceWorker(string) {
	volume := os.Getenv("VOLUME")
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	if err == nil {
		err = syscall.Mount(os.Getenv("DIR"), volume, "", syscall.MS_BIND, "")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	b, err := Open(filepath.Join(volume, "shop"), &Options{AnyFileSystem: true, Limit: 8 << 20})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	w := workerCells(b, requests, `code="200",method="GET"`)
	workerCells(b, campaignBusy, "")[backend.GaugeValue].Store(math.Float64bits(1))
	for range 10_000 {
		w[0].Add(1)
	}
	fmt.Println("pid", os.Getpid())
	bufio.NewReader(os.Stdin).ReadString('\n')
}

// Two containers share a volume, each with its own mount and pid namespaces. Both programs have pid
// 1, and each instance lives exactly as long as its process.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	b := open(t, filepath.Join(dir, "shop"), nil)
	var containers []*exec.Cmd
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GOTHEUS_SHM_WORKER=namespace", "DIR="+dir, "VOLUME="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatalf("starting a process in its own namespaces: %v", err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Process.Kill()
			cmd.Wait()
		})
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "pid 1\n" {
			t.Fatal(line, err)
		}
		containers = append(containers, cmd)
	}
	for alive := 2; ; alive-- {
		if got := cells(t, b, requests, `code="200",method="GET"`)[0].Load(); got != 20_000 {
			t.Errorf("%d counted, want 20000", got)
		}
		if n := liveParts(t, b); n != alive {
			t.Errorf("%d gauges count, %d processes are alive", n, alive)
		}
		pids := 0
		for _, i := range b.Instances() {
			if i.Alive && i.PID == 1 {
				pids++
			}
		}
		if pids != alive {
			t.Errorf("%d instances with pid 1, %d alive", pids, alive)
		}
		if alive == 0 {
			break
		}
		containers[alive-1].Process.Kill()
		containers[alive-1].Wait()
	}
	checkFileNow(t, b.Path())
}

// A file of another user is neither used nor changed, even if the kernel lets us open it. In a
// shared directory, a user can take a name first and so keep others out, but cannot make them count
// in a foreign file.
func TestOtherUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	// The other user must reach the program and the directory.
	shared, err := os.MkdirTemp("", "gotheus-users")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(shared) })
	worker := copyProgram(t, shared, "worker")
	for name, mode := range map[string]os.FileMode{shared: 0o777 | os.ModeSticky, worker: 0o755} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	const other = 54321
	as := func(path string) string {
		cmd := exec.Command(worker)
		cmd.Env = []string{"GOTHEUS_SHM_WORKER=open", "FILE=" + path, "ANY=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
		cmd.Dir = shared
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}

	ours := filepath.Join(shared, "ours")
	b := open(t, ours, nil)
	cells(t, b, requests, `code="1",method=""`)[0].Add(7)
	b.Close(t.Context())
	before, err := os.ReadFile(b.Path())
	if err != nil {
		t.Fatal(err)
	}
	if got := as(ours); !strings.Contains(got, "permission denied") || !strings.Contains(got, ours) {
		t.Errorf("the other user opened ours: %q", got)
	}
	// With mode 0666 the kernel does not refuse it, but Open does.
	os.Chmod(b.Path(), 0o666)
	if got := as(ours); !strings.Contains(got, "is writable by everybody") {
		t.Errorf("the other user opened ours: %q", got)
	}
	if after, err := os.ReadFile(b.Path()); err != nil || !slices.Equal(after, before) {
		t.Errorf("the other user changed ours: %v", err)
	}

	theirs := filepath.Join(shared, "theirs")
	if got := as(theirs); got != "opened\n" {
		t.Fatal(got)
	}
	for _, damaged := range []bool{false, true} {
		if damaged {
			if err := os.WriteFile(theirs+Suffix, []byte("something else"), 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range []*Options{{}, {Fresh: true}, {Limit: 1 << 20}} {
			o.AnyFileSystem = true
			if _, err := Peek(theirs, o); err == nil || !strings.Contains(err.Error(), "belongs to user 54321") {
				t.Errorf("Peek with %+v, damaged %v: %v", *o, damaged, err)
			}
			if _, err := Open(theirs, o); err == nil || !strings.Contains(err.Error(), "belongs to user 54321, but this process runs as user 0") {
				t.Errorf("Open with %+v, damaged %v: %v", *o, damaged, err)
			}
		}
		if list, _ := filepath.Glob(theirs + "*"); len(list) != 1 {
			t.Errorf("%q", list)
		}
	}
}
