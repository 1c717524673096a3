package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// table is a group of contenders that do the same.
type table struct {
	title      string
	goroutines int
	operations int // per measurement; 0: as many as fit into the time
	contenders func(e *env) ([]contender, error)
	// report prints figures other than those of contenders; nil: there are contenders.
	report func(e *env, w io.Writer, rounds int) error
	// limit is the maximum cost of gotheus's rows as a multiple of their floor; a line below
	// the table says whether it is met. 0: no limit.
	limit float64
	// large says that contenders hold so much memory, and make so little garbage, that a
	// collection each time would take much longer than the measurement.
	large bool
}

// Row names begin with the library. The others are compared with client_golang's first row.
const (
	ours = "gotheus"
	peer = "client_golang"
)

// print prints medians, and their ratios: of a row to its floor, to client_golang's first row, and
// to the fastest of the peers.
func (t *table) print(w io.Writer, results []result) {
	sized := find(results, func(r *result) bool { return r.out > 0 }) != nil
	fmt.Fprintf(w, "\n### %s\n\n", t.title)
	fmt.Fprint(w, "| | median | min | × floor | × client_golang | × best peer | allocs/op | B/op |")
	if sized {
		fmt.Fprint(w, " size | × client_golang |")
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("--:|", map[bool]int{false: 7, true: 9}[sized]))
	theirs := find(results, func(r *result) bool { return strings.HasPrefix(r.name, peer) })
	best := bestPeer(results)
	for i := range results {
		r := &results[i]
		vsBest := ""
		if strings.HasPrefix(r.name, ours) {
			vsBest = ratio(r, best)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s |", r.name, duration(r.median), duration(r.min),
			ratio(r, floorOf(results, r)), ratio(r, theirs), vsBest, amount(r.allocs), amount(r.bytes))
		if sized {
			fmt.Fprintf(w, " %d | %.2f |", r.out, float64(r.out)/float64(theirs.out))
		}
		fmt.Fprintln(w)
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

// bestPeer returns the fastest row that is neither ours nor a floor.
func bestPeer(results []result) (best *result) {
	for i := range results {
		r := &results[i]
		floor := find(results, func(o *result) bool { return o.floor == r.name }) != nil
		if !floor && !strings.HasPrefix(r.name, ours) && (best == nil || r.median < best.median) {
			best = r
		}
	}
	return best
}

func ratio(r, to *result) string {
	if to == nil || to == r {
		return ""
	}
	return significant(r.median / to.median)
}

// significant formats small numbers with two digits, others with hundredths.
func significant(v float64) string {
	if v < .1 {
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return fmt.Sprintf("%.2f", v)
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

// amount ignores the little that the measurement itself allocates.
func amount(v float64) string {
	if v < 0.01 {
		return "0"
	}
	if v < 100 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	return fmt.Sprintf("%.0f", v)
}
