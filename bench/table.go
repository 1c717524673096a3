package main

import (
	"fmt"
	"io"
	"strings"
)

// table is what is measured together: contenders that do the same.
type table struct {
	title      string
	goroutines int
	operations int // of one measurement; 0: as many as fit into the time
	contenders func(e *env) ([]contender, error)
	// limit is how many times its floor each of gotheus's rows may cost at most; a line below the
	// table says whether it does. 0: there is none.
	limit float64
}

// Rows begin with whose they are. client_golang's first row is what others are compared with.
const (
	ours = "gotheus"
	peer = "client_golang"
)

func (t *table) print(w io.Writer, results []result) {
	fmt.Fprintf(w, "\n### %s\n\n", t.title)
	by := t.statistic()
	fmt.Fprintf(w, "| | min | median | × floor, by %s | × client_golang, by %[1]s | allocs/op | B/op |\n", by)
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|")
	theirs := find(results, func(r *result) bool { return strings.HasPrefix(r.name, peer) })
	for i := range results {
		r := &results[i]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", r.name, duration(r.min), duration(r.median),
			ratio(r, floorOf(results, r), by), ratio(r, theirs, by), amount(r.allocs), amount(r.bytes))
	}
	if t.limit > 0 {
		fmt.Fprintln(w)
		for i := range results {
			if r := &results[i]; strings.HasPrefix(r.name, ours) {
				t.verdict(w, r, floorOf(results, r))
			}
		}
	}
}

func (t *table) verdict(w io.Writer, r, floor *result) {
	is := "is"
	if r.min > t.limit*floor.min {
		is = "is NOT"
	}
	fmt.Fprintf(w, "%s %s within %.2fx of %s: %.3fx by the minimum of the rounds.\n", r.name, is, t.limit, floor.name, r.min/floor.min)
}

func find(results []result, ok func(*result) bool) *result {
	for i := range results {
		if ok(&results[i]) {
			return &results[i]
		}
	}
	return nil
}

func floorOf(results []result, r *result) *result {
	return find(results, func(f *result) bool { return f.name == r.floor })
}

// statistic says by what rows are compared. The minimum is what is left when the machine does nothing
// else. But goroutines that are meant to collide are fastest in the rounds in which they did not, because
// one of them had no processor: of those it is the median that means something.
func (t *table) statistic() string {
	if t.goroutines == 1 {
		return "min"
	}
	return "median"
}

func ratio(r, to *result, by string) string {
	switch {
	case to == nil || to == r:
		return ""
	case by == "min":
		return fmt.Sprintf("%.2f", r.min/to.min)
	}
	return fmt.Sprintf("%.2f", r.median/to.median)
}

func duration(ns float64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%.2f ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.2f µs", ns/1e3)
	}
	return fmt.Sprintf("%.2f ms", ns/1e6)
}

// amount leaves out the little that the measurement itself allocates.
func amount(v float64) string {
	if v < 0.01 {
		return "0"
	}
	if v < 100 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	return fmt.Sprintf("%.0f", v)
}
