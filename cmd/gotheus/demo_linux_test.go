package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const deadline = 3 * time.Minute // for what happens at once unless something is broken

// gotheusCommand is the command with these arguments.
func gotheusCommand(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*deadline)
	t.Cleanup(cancel)
	cmd, stderr = exec.CommandContext(ctx, exe, args...), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), envActAsGotheus+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = stderr
	cmd.WaitDelay = deadline
	return cmd, stderr
}

// eventually waits for what the system gives no event for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: still not so after %v", what, deadline)
		}
	}
}

// gone reports whether a process has ended, even if nobody has waited for it yet.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return state[0] == 'Z' || state[0] == 'X'
}

// dirOf returns the demo's own directory.
func dirOf(t *testing.T, backend string) string {
	t.Helper()
	u, err := url.Parse(backend)
	if err != nil || !strings.Contains(u.Path, dirPrefix) {
		t.Fatalf("backend %q is not in a directory of the demo's own (%v)", backend, err)
	}
	return filepath.Dir(u.Path)
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}

func TestDemo(t *testing.T) {
	t.Parallel()
	cmd, stderr := gotheusCommand(t, "demo", "-for", "2s", "-json")
	// A backend in the environment is for other programs.
	other := filepath.Join(t.TempDir(), "other")
	cmd.Env = append(cmd.Env, "GOTHEUS_BACKEND=shm://"+other+"?fs=any")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !r.OK || !r.WorkersAgree || !r.ClientsAgree || len(r.Problems) > 0 || len(r.Workers) != 4 || r.Requests == 0 {
		t.Errorf("result: %s", out)
	}
	if r.Killed == 0 || r.Replaced == 0 || r.Killed == r.Replaced || !slices.Equal(r.Deaths, []int{r.Killed}) {
		t.Errorf("killed %d, replaced by %d, dead %v", r.Killed, r.Replaced, r.Deaths)
	}
	var requests uint64
	for _, row := range r.Rows {
		if strings.HasPrefix(row.Sample, compared[0]) {
			requests += row.Clients + row.Cut
		}
		for i, v := range row.Metrics {
			if v != row.Metrics[0] || v < float64(row.Clients) || v > float64(row.Clients+row.Cut) {
				t.Errorf("worker %d: %+v", i, row)
			}
		}
	}
	if requests != r.Requests {
		t.Errorf("rows have %d requests, the result %d", requests, r.Requests)
	}
	var replaced bool
	for _, w := range r.Workers {
		replaced = replaced || w.PID == r.Replaced
		if !gone(w.PID) {
			t.Errorf("pid %d is still there", w.PID)
		}
	}
	if !replaced {
		t.Errorf("pid %d is not among %v", r.Replaced, r.Workers)
	}
	if dir := dirOf(t, r.Backend); !missing(dir) {
		t.Errorf("%s is still there", dir)
	}
	if list, _ := filepath.Glob(other + "*"); len(list) > 0 {
		t.Errorf("the environment's backend was used: %v", list)
	}
}

// A file that has counts already, and a backend that workers do not share.
func TestDemoBackends(t *testing.T) {
	t.Parallel()
	dir, err := makeDir() // where no disk can be slow
	if err != nil {
		t.Fatal(err)
	}
	defer removeDir(dir)
	shared := "shm://" + filepath.Join(dir, "shop") + "?fs=any&limit=16MiB"
	for _, tt := range []struct {
		backend string
		ok      bool
	}{
		{shared, true},
		{shared, true},
		{"heap:", false},
	} {
		cmd, stderr := gotheusCommand(t, "demo", "-for", "300ms", "-workers", "2", "-backend", tt.backend)
		out, err := cmd.Output()
		status, end := cmd.ProcessState.ExitCode(), "they agree with the clients: yes\nexit status 0\n"
		if !tt.ok {
			end = "they agree with the clients: no\nexit status 1\n"
		}
		if ok := status == exitOK; ok != tt.ok || !strings.HasSuffix(string(out), end) || stderr.Len() > 0 {
			t.Errorf("%s: %v\n%s\n%s", tt.backend, err, out, stderr)
		}
	}
}

func TestDemoCannotStart(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	for _, tt := range []struct {
		flag, value string
		text        string
	}{
		{"-backend", "nowhere://host", `unknown scheme "nowhere"`},
		{"-backend", "shm:///dev/null/shop", "/dev/null/shop"},
		{"-listen", busy.Addr().String(), "address already in use"},
	} {
		t.Run(tt.value, func(t *testing.T) {
			t.Parallel()
			cmd, stderr := gotheusCommand(t, "demo", "-for", "0", "-workers", "2", tt.flag, tt.value)
			out, err := cmd.Output()
			if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(stderr.String(), tt.text) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("%v\n%s\n%s", err, out, stderr)
			}
		})
	}
}

// The page of any worker tells what each of them says about its process; when one is killed, the
// next page has nothing of it, and soon has its successor.
func TestDemoProcesses(t *testing.T) {
	t.Parallel()
	cmd, s, stderr := serveDemo(t, 4)
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, stderr)
		}
	}()
	// started returns the processes that are on the page with all that they say, by the label
	// that tells them apart, and when they were started. A page can be made while one that has
	// just begun is saying it.
	started := func(admin string) map[string]float64 {
		p, err := fetchPage(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		list := make(map[string]float64)
		for sample, v := range p {
			if strings.HasPrefix(sample, "process_start_time_seconds{") {
				process, whole := label(sample, "process"), v > 0
				for _, name := range []string{"go_goroutines", "go_threads", "process_open_fds", "process_resident_memory_bytes"} {
					whole = whole && p[name+`{process="`+process+`"}`] > 0
				}
				if whole {
					list[process] = v
				}
			}
		}
		return list
	}
	eventually(t, "all workers are on the page of the last one", func() bool { return len(started(s.Workers[3].Admin)) == 4 })
	now, last := float64(time.Now().Unix()), 0.0
	for process, at := range started(s.Workers[3].Admin) {
		last = max(last, at)
		if process == "" || at < now-600 || at > now+2 {
			t.Errorf("process %q started at %v, now it is %v", process, at, now)
		}
	}
	if err := syscall.Kill(s.Workers[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its successor is there", func() bool {
		list := started(s.Workers[3].Admin)
		newest := 0.0
		for _, at := range list {
			newest = max(newest, at)
		}
		return len(list) == 4 && newest > last
	})
}

// serveDemo starts a demo without load and returns when it serves.
func serveDemo(t *testing.T, workers int) (*exec.Cmd, *serving, *bytes.Buffer) {
	t.Helper()
	cmd, stderr := gotheusCommand(t, "demo", "-for", "0", "-workers", strconv.Itoa(workers), "-json")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := new(serving)
	if err := json.NewDecoder(stdout).Decode(s); err != nil || len(s.Workers) != workers {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("%v %+v\n%s", err, s, stderr)
	}
	return cmd, s, stderr
}

func TestDemoServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	cmd, s, stderr := serveDemo(t, 3)
	for range 3 {
		resp, err := http.Get("http://" + s.Address + "/?item=cake")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	for _, addr := range []string{s.Address, s.Workers[0].Admin, s.Workers[2].Admin} {
		p, err := fetchPage(t.Context(), addr)
		if n := p[`shop_orders_total{item="cake",result="sold"}`]; err != nil || n != 3 {
			t.Errorf("%s: %v cakes, %v", addr, n, err)
		}
	}
	// A terminal interrupts all processes.
	for _, w := range s.Workers {
		if err := syscall.Kill(w.PID, syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}
	if p, err := fetchPage(t.Context(), s.Workers[1].Admin); err != nil || len(p) == 0 {
		t.Errorf("after a worker's interrupt: %v", err)
	}
	dir := dirOf(t, s.Backend)
	if list, _ := filepath.Glob(dir + "/*"); len(list) == 0 {
		t.Errorf("no file in %s", dir)
	}
	cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, stderr)
	}
	for _, w := range s.Workers {
		if !gone(w.PID) {
			t.Errorf("pid %d is still there", w.PID)
		}
	}
	if !missing(dir) {
		t.Errorf("%s is still there", dir)
	}
}

func TestDemoInterruptedUnderLoad(t *testing.T) {
	t.Parallel()
	cmd, stderr := gotheusCommand(t, "demo", "-for", "1m", "-workers", "2")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for buf := make([]byte, 1<<10); !bytes.Contains(out, []byte("send requests")); {
		n, err := stdout.Read(buf)
		if out = append(out, buf[:n]...); err != nil {
			break
		}
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("%v\n%s\n%s", cmd.ProcessState, out, stderr)
	}
	if i := bytes.Index(out, []byte("shm://")); i < 0 {
		t.Errorf("no backend in %s", out)
	} else if dir := dirOf(t, string(bytes.Fields(out[i:])[0])); !missing(dir) {
		t.Errorf("%s is still there", dir)
	}
}

func TestWorkersOutliveNobody(t *testing.T) {
	t.Parallel()
	cmd, s, _ := serveDemo(t, 3)
	dir := dirOf(t, s.Backend)
	cmd.Process.Kill()
	cmd.Wait()
	for _, w := range s.Workers {
		eventually(t, "pid "+strconv.Itoa(w.PID)+" ends", func() bool { return gone(w.PID) })
	}
	eventually(t, dir+" is removed", func() bool { return missing(dir) })
}

func TestWorkersAreReplaced(t *testing.T) {
	t.Parallel()
	cmd, s, _ := serveDemo(t, 3)
	defer func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}()
	for _, w := range s.Workers {
		syscall.Kill(w.PID, syscall.SIGTERM)
	}
	for _, w := range s.Workers {
		eventually(t, "pid "+strconv.Itoa(w.PID)+" ends", func() bool { return gone(w.PID) })
	}
	// Somebody new must answer at the same address, and nobody is refused meanwhile.
	resp, err := http.Get("http://" + s.Address + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	var pid int
	if _, after, ok := strings.Cut(resp.Header.Get("Server"), "/"); ok {
		pid, _ = strconv.Atoi(after)
	}
	if resp.StatusCode != http.StatusOK || pid == 0 || gone(pid) {
		t.Errorf("%s from pid %d", resp.Status, pid)
	}
}
