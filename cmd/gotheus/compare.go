package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// compared are the samples whose values clients know.
var compared = []string{
	"http_request_duration_seconds_count{",
	"shop_orders_total{",
	"shop_delivery_seconds_count",
}

const problemsShown = 3 // of each kind

// reading is the page of one worker.
type reading struct {
	PID  int
	Page page
}

// row is a sample with its value according to clients and workers.
type row struct {
	Sample  string `json:"sample"`
	Clients uint64 `json:"clients"` // answers
	// requests without an answer, which may have been counted or not
	Cut     uint64    `json:"cut"`
	Metrics []float64 `json:"metrics"` // by worker
	OK      bool      `json:"ok"`
}

// verdict is the result of a comparison.
type verdict struct {
	Rows         []row    `json:"rows"`
	WorkersAgree bool     `json:"workers_agree"` // with each other
	ClientsAgree bool     `json:"clients_agree"` // with every worker
	Problems     []string `json:"problems"`
}

// compare compares what clients counted with the workers' pages, less the page from before. The
// only tolerance is for requests that were cut, and of those there can be no more than maxCut.
func compare(t *tally, before page, readings []reading, maxCut uint64) verdict {
	v := verdict{Problems: []string{}, WorkersAgree: len(readings) > 0, ClientsAgree: len(readings) > 0}
	v.compareWorkers(readings)
	samples := make(map[string]bool)
	for s := range t.samples {
		samples[s] = true
	}
	for _, r := range readings {
		for s, value := range r.Page {
			if isCompared(s) && value != before[s] {
				samples[s] = true
			}
		}
	}
	var done, cut uint64 // requests
	var problems, general []string
	for _, s := range slices.Sorted(maps.Keys(samples)) {
		c := t.samples[s]
		if strings.HasPrefix(s, compared[0]) {
			done, cut = done+c.done, cut+c.cut
		}
		row := row{Sample: s, Clients: c.done, Cut: c.cut, OK: true}
		for _, r := range readings {
			value := r.Page[s] - before[s]
			row.Metrics = append(row.Metrics, value)
			if !(value >= float64(c.done) && value <= float64(c.done+c.cut)) {
				row.OK = false
			}
		}
		if !row.OK {
			problems = append(problems, fmt.Sprintf("%s: clients counted %d, and %d cut; workers %v", s, c.done, c.cut, row.Metrics))
		}
		v.Rows = append(v.Rows, row)
	}
	if done == 0 {
		general = append(general, "no request was answered")
	}
	if cut > maxCut {
		general = append(general, fmt.Sprintf("%d requests were cut, but the workers that died can have cut %d at most", cut, maxCut))
	}
	if len(problems)+len(general) > 0 {
		v.ClientsAgree = false
		v.report(general)
		v.report(problems)
	}
	return v
}

// compareWorkers compares everything on the pages that does not depend on the process and the time:
// not only what clients know, but also sums and buckets. Requests for pages are ignored.
func (v *verdict) compareWorkers(readings []reading) {
	if len(readings) == 0 {
		v.report([]string{"no worker was read"})
		return
	}
	first := readings[0]
	for _, r := range readings[1:] {
		samples := make(map[string]bool)
		for s := range first.Page {
			samples[s] = true
		}
		for s := range r.Page {
			samples[s] = true
		}
		var problems []string
		for _, s := range slices.Sorted(maps.Keys(samples)) {
			if ofProcess(s) || ofMetrics(s) {
				continue
			}
			a, okA := first.Page[s]
			b, okB := r.Page[s]
			if a != b || okA != okB {
				problems = append(problems, fmt.Sprintf("%s is %s for pid %d, %s for pid %d",
					s, shown(a, okA), first.PID, shown(b, okB), r.PID))
			}
		}
		if len(problems) > 0 {
			v.WorkersAgree = false
			v.report(problems)
		}
	}
}

func (v *verdict) report(problems []string) {
	if more := len(problems) - problemsShown; more > 0 {
		problems = append(problems[:problemsShown], fmt.Sprintf("and %d more of these", more))
	}
	v.Problems = append(v.Problems, problems...)
}

func shown(value float64, ok bool) string {
	if !ok {
		return "missing"
	}
	return fmt.Sprint(value)
}

func isCompared(sample string) bool {
	for _, prefix := range compared {
		if strings.HasPrefix(sample, prefix) {
			return !ofMetrics(sample)
		}
	}
	return false
}

// ofProcess reports whether a sample is about a process or the library, which changes from page to
// page.
func ofProcess(sample string) bool {
	for _, prefix := range []string{"gotheus_", "go_", "process_"} {
		if strings.HasPrefix(sample, prefix) {
			return true
		}
	}
	return false
}

// ofMetrics reports whether a sample is about requests for pages.
func ofMetrics(sample string) bool { return label(sample, "route") == "/metrics" }
