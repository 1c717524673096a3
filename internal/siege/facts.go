package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// facts are what a service knows about itself.
type facts struct {
	CPU        float64 // seconds so far
	Peak       int     // resident memory, in KiB, since the last time that it was asked
	Goroutines int
}

// serveFacts answers with the facts.
func serveFacts(w http.ResponseWriter, _ *http.Request) {
	f, err := ownFacts()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(f)
}

func ownFacts() (f facts, err error) {
	f.Goroutines = runtime.NumGoroutine()
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return f, err
	}
	// The fields after the program's name, which may contain blanks.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return f, fmt.Errorf("/proc/self/stat has only %d fields", len(fields))
	}
	const ticksPerSecond = 100
	for _, field := range fields[11:13] { // in user and kernel mode
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return f, err
		}
		f.CPU += float64(ticks) / ticksPerSecond
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			f.Peak, err = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	// Begins a new peak. Where that is not allowed, the old one stays.
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return f, err
}
