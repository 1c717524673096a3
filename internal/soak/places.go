//go:build linux

package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gotheus/gotheus/internal/backend/shm"
)

// place is where the metrics are, and what there is to measure of it.
type place struct {
	url        string
	shared     bool // all workers have one total
	quantities []*quantity
	measure    func() ([]float64, error) // a value for each quantity
	close      func() error
}

func newPlace(backend, dir string) (*place, error) {
	switch backend {
	case "shm":
		return shmPlace(dir), nil
	case "redis":
		return redisPlace(dir)
	}
	return &place{url: "heap:", measure: func() ([]float64, error) { return nil, nil }, close: func() error { return nil }}, nil
}

func shmPlace(dir string) *place {
	u := url.URL{Scheme: "shm", Path: filepath.Join(dir, "soak"), RawQuery: "fs=any"}
	return &place{
		url: u.String(), shared: true,
		quantities: []*quantity{
			{name: "file size", unit: "KB", slack: 64, share: .02},
			{name: "file, used", unit: "KB", slack: 64, share: .02},
		},
		measure: func() ([]float64, error) {
			name := u.Path + shm.Suffix
			var st syscall.Stat_t
			if err := syscall.Stat(name, &st); err != nil {
				return nil, err
			}
			r, err := shm.Inspect(name)
			if err != nil {
				return nil, err
			}
			if len(r.Problems) > 0 {
				return nil, fmt.Errorf("the file is damaged: %v", r.Problems)
			}
			return []float64{float64(st.Blocks) / 2, float64(r.Used) / 1024}, nil
		},
		close: func() error { return nil },
	}
}

// redisPlace starts a server of its own, without persistence.
func redisPlace(dir string) (*place, error) {
	exe := os.Getenv("GOTHEUS_REDIS_SERVER")
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			exe = cmp.Or(exe, path)
		}
	}
	if exe == "" {
		return nil, errors.New("there is neither redis-server nor valkey-server; GOTHEUS_REDIS_SERVER can name one")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(exe, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--loglevel", "warning")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &place{
		url: "redis://" + addr + "/0?ns=soak", shared: true,
		quantities: []*quantity{{name: "server memory", unit: "KB", slack: 128, share: .05}},
		measure: func() ([]float64, error) {
			used, err := usedMemory(addr)
			return []float64{used / 1024}, err
		},
		close: func() error {
			cmd.Process.Kill()
			cmd.Wait() // whose error says that it was killed
			return nil
		},
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err = usedMemory(addr); err == nil {
			return p, nil
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(err, p.close())
		}
	}
}

// usedMemory asks a server for its memory in bytes.
func usedMemory(addr string) (float64, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "INFO memory\r\nQUIT\r\n"); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "used_memory:"); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("%s does not say how much memory it uses", addr), lines.Err())
}

// processQuantities are what measureProcess returns.
func processQuantities() []*quantity {
	return []*quantity{
		{name: "resident set", unit: "KB", slack: 1024, share: .05},
		{name: "descriptors", unit: "", slack: 3},
		{name: "mappings", unit: "", slack: 4},
	}
}

func measureProcess(pid int) ([]float64, error) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(status), "\nVmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return nil, fmt.Errorf("%sstatus has no VmRSS", proc)
	}
	rss, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return nil, err
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		return nil, err
	}
	maps, err := os.ReadFile(proc + "maps")
	if err != nil {
		return nil, err
	}
	return []float64{rss, float64(len(fds)), float64(strings.Count(string(maps), "\n"))}, nil
}
