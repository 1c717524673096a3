package collectors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus"
)

// Process collects process_*: CPU time, memory, file descriptors and start time. It reads them from
// /proc on Linux, and collects nothing on other systems. Values that cannot be read are omitted. A
// missing limit is +Inf.
type Process struct {
	perProcess
	root string // "" for /proc
}

// ticks is the unit of times in /proc, USER_HZ, on all architectures that Go supports.
const ticks = 100

// Collect implements gotheus.Collector.
func (p *Process) Collect(_ context.Context, s *gotheus.Sink) error {
	root := p.root
	if root == "" {
		if runtime.GOOS != "linux" {
			return nil
		}
		root = "/proc"
	}
	if text, err := os.ReadFile(root + "/self/stat"); err == nil {
		st, err := parseStat(text)
		if err != nil {
			s.Error(err)
			return nil
		}
		s.Counter("process_cpu_seconds_total", "CPU time used, user and system.").Put(st.cpu)
		s.Gauge("process_virtual_memory_bytes", "Virtual memory.").Put(st.virtual)
		s.Gauge("process_resident_memory_bytes", "Resident memory.").Put(st.resident)
		if boot, ok := bootTime(root); ok {
			s.Gauge("process_start_time_seconds", "When the process was started, in seconds since 1970.").Put(boot + st.start)
		}
	}
	if n, err := openFiles(root + "/self/fd"); err == nil {
		s.Gauge("process_open_fds", "Open file descriptors.").Put(float64(n))
	}
	if text, err := os.ReadFile(root + "/self/limits"); err == nil {
		if v, ok := softLimit(text, "Max open files"); ok {
			s.Gauge("process_max_fds", "Limit of open file descriptors.").Put(v)
		}
		if v, ok := softLimit(text, "Max address space"); ok {
			s.Gauge("process_virtual_memory_max_bytes", "Limit of virtual memory.").Put(v)
		}
	}
	return nil
}

// stat is the content of /proc/self/stat, see proc(5), in seconds and bytes; start is since boot.
type stat struct{ cpu, start, virtual, resident float64 }

func parseStat(text []byte) (st stat, err error) {
	// The program's name, in parentheses, can contain anything.
	i := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[i+1:])
	const first = 3 // number of the first field after it
	number := func(n int) float64 {
		if i < 0 || n-first >= len(fields) {
			err = errors.Join(err, fmt.Errorf("collectors: field %d of /proc/self/stat is missing", n))
			return 0
		}
		v, e := strconv.ParseUint(string(fields[n-first]), 10, 64)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("collectors: field %d of /proc/self/stat: %w", n, e))
		}
		return float64(v)
	}
	st.cpu = (number(14) + number(15)) / ticks
	st.start = number(22) / ticks
	st.virtual = number(23)
	st.resident = number(24) * float64(os.Getpagesize())
	return st, err
}

// bootTime returns when the system was started, in seconds since 1970.
func bootTime(root string) (float64, bool) {
	text, err := os.ReadFile(root + "/stat")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "btime "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return float64(n), err == nil
		}
	}
	return 0, false
}

// openFiles counts the entries of a directory of file descriptors, except for the one used for
// reading it.
func openFiles(dir string) (n int, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1000)
		n += len(names)
		if err == io.EOF {
			return n - 1, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// softLimit returns a limit in /proc/self/limits.
func softLimit(text []byte, name string) (float64, bool) {
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0, false
		}
		if fields[0] == "unlimited" {
			return math.Inf(1), true
		}
		v, err := strconv.ParseUint(fields[0], 10, 64)
		return float64(v), err == nil
	}
	return 0, false
}
