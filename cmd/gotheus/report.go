package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxColumns is the largest number of workers that have a column each in the table.
const maxColumns = 8

// result is what -json shows of a run with load.
type result struct {
	OK       bool    `json:"ok"`
	Address  string  `json:"address"`
	Backend  string  `json:"backend"`
	Seconds  float64 `json:"seconds"`
	Requests uint64  `json:"requests"` // that were sent
	Cut      uint64  `json:"cut"`      // of these, without a whole answer
	Killed   int     `json:"killed_pid"`
	Replaced int     `json:"replacement_pid"`
	Deaths   []int   `json:"dead_pids"` // including the killed one's

	KilledAnswers uint64 `json:"killed_answers"`

	Workers []workerResult `json:"workers"`
	verdict
}

type workerResult struct {
	PID     int    `json:"pid"`
	Admin   string `json:"admin"`
	Answers uint64 `json:"answers"`
}

// serving is what -json shows of a run without load.
type serving struct {
	Address string         `json:"address"`
	Backend string         `json:"backend"`
	PID     int            `json:"pid"`
	Workers []workerResult `json:"workers"`
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (r *result) write(w io.Writer) {
	columns := r.columns()
	head := []string{"", "clients", "cut"}
	for _, c := range columns {
		head = append(head, c.name)
	}
	table := [][]string{head}
	for _, row := range r.Rows {
		cells := []string{shortName(row.Sample), fmt.Sprint(row.Clients), fmt.Sprint(row.Cut)}
		if !row.OK {
			cells[0] = "WRONG: " + cells[0]
		}
		for _, c := range columns {
			cells = append(cells, number(c.of(row.Metrics)))
		}
		table = append(table, cells)
	}
	fmt.Fprintln(w)
	writeTable(w, table)
	fmt.Fprintln(w)
	for _, worker := range r.Workers {
		fmt.Fprintf(w, "pid %d answered %s\n", worker.PID, numbered(int(worker.Answers), "request", "requests"))
	}
	fmt.Fprintf(w, "pid %d answered %s before it was killed\n", r.Killed, numbered(int(r.KilledAnswers), "request", "requests"))
	for _, p := range r.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	status := exitOK
	if !r.OK {
		status = exitFailed
	}
	fmt.Fprintf(w, "%d requests in %.1f s\n", r.Requests, r.Seconds)
	fmt.Fprintf(w, "pid %d was killed and pid %d took its place; %d requests were cut\n", r.Killed, r.Replaced, r.Cut)
	fmt.Fprintf(w, "all %d workers agree: %s\n", len(r.Workers), yesNo(r.WorkersAgree))
	fmt.Fprintf(w, "they agree with the clients: %s\n", yesNo(r.ClientsAgree))
	fmt.Fprintf(w, "exit status %d\n", status)
}

// column is a column of the table for a worker, or for many.
type column struct {
	name string
	of   func(values []float64) float64
}

func (r *result) columns() []column {
	if len(r.Workers) > maxColumns {
		return []column{{"least of all workers", slices.Min[[]float64]}, {"most", slices.Max[[]float64]}}
	}
	var list []column
	for i, w := range r.Workers {
		list = append(list, column{fmt.Sprintf("pid %d", w.PID), func(values []float64) float64 { return values[i] }})
	}
	return list
}

// shortName is a sample as the table shows it: method, route and status for those of the
// middleware.
func shortName(sample string) string {
	if !strings.HasPrefix(sample, compared[0]) {
		return sample
	}
	return fmt.Sprintf("%s %s, status %s", label(sample, "method"), label(sample, "route"), label(sample, "status_code"))
}

// writeTable aligns the first column to the left and the others to the right.
func writeTable(w io.Writer, table [][]string) {
	widths := make([]int, len(table[0]))
	for _, cells := range table {
		for i, c := range cells {
			widths[i] = max(widths[i], len(c))
		}
	}
	for _, cells := range table {
		fmt.Fprintf(w, "%-*s", widths[0], cells[0])
		for i, c := range cells[1:] {
			fmt.Fprintf(w, "  %*s", widths[i+1], c)
		}
		fmt.Fprintln(w)
	}
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}
