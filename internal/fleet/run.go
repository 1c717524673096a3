//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// run is one run of an experiment.
type run struct {
	*options
	dir, exe string
	server   *server
	children []*process // that may be alive
	began    time.Time
	tables   []*table   // that are not printed yet
	mu       sync.Mutex // of children and problems
	problems []string
	more     int // problems beyond the first ones
}

const maxProblems = 20

// wrong notes something that is wrong. The first ones are enough.
func (r *run) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) == maxProblems {
		r.more++
		return
	}
	const most = 400
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	r.problems = append(r.problems, text)
}

// note says how far the experiment is.
func (r *run) note(format string, args ...any) {
	if r.verbose {
		fmt.Fprintf(r.stderr, "%6.1fs %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// perform runs an experiment with a server of its own, and returns what is wrong.
func perform(ctx context.Context, o *options, e experiment) []string {
	r := &run{options: o, began: time.Now()}
	if err := r.perform(ctx, e); err != nil {
		r.problems = append(r.problems, err.Error())
	}
	verdict := "nothing is wrong"
	if len(r.problems) > 0 {
		verdict = fmt.Sprintf("%d wrong, such as: %s", len(r.problems)+r.more, r.problems[0])
	}
	fmt.Fprintf(o.out, "\n%s took %v: %s\n\n", e.name, round(time.Since(r.began)), verdict)
	if r.more > 0 {
		r.problems = append(r.problems, fmt.Sprintf("and %d more", r.more))
	}
	return r.problems
}

func (r *run) perform(ctx context.Context, e experiment) (err error) {
	if r.exe, err = os.Executable(); err != nil {
		return err
	}
	// Paths of sockets are short, so the default directory of a test would not do.
	if r.dir, err = os.MkdirTemp("/tmp", "gotheus-fleet-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if r.server, err = startServer(ctx, r.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.server.stop()) }()
	defer r.killAll()
	defer context.AfterFunc(ctx, r.killAll)() // which ends operations, too
	fmt.Fprintf(r.out, "## %s\n\n", e.name)
	err = e.run(ctx, r)
	for _, t := range slices.Clone(r.tables) { // what there is, if the experiment has failed
		r.print(t)
	}
	return err
}

// place returns a namespace with the default times.
func (r *run) place(namespace string) place {
	p := place{Socket: r.server.socket, Addr: r.server.addr, Namespace: namespace, Verbose: r.verbose}
	if r.slow > 0 {
		p.Alive, p.Interval = r.slow, r.slow/20
	}
	return p
}

// fast returns a namespace with the times of experiments that would take too long otherwise.
func (r *run) fast(namespace string) place {
	p := r.place(namespace)
	p.Alive, p.Interval = r.alive, r.alive/20
	return p
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// table is a table in Markdown. Its first column is text, the others are figures.
type table struct{ rows [][]string }

func (r *run) newTable(head ...string) *table {
	t := &table{[][]string{head}}
	r.tables = append(r.tables, t)
	return t
}

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		switch v := c.(type) {
		case float64:
			row[i] = number(v)
		case time.Duration:
			row[i] = round(v).String()
		default:
			row[i] = fmt.Sprint(v)
		}
	}
	t.rows = append(t.rows, row)
}

// print prints the table with columns of even width.
func (r *run) print(t *table) {
	r.tables = slices.DeleteFunc(r.tables, func(u *table) bool { return u == t })
	width := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c), 4)
		}
	}
	line := func(row []string) {
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				fmt.Fprintf(r.out, "| %s%s |", c, pad)
			} else {
				fmt.Fprintf(r.out, " %s%s |", pad, c)
			}
		}
		fmt.Fprintln(r.out)
	}
	line(t.rows[0])
	rule := make([]string, len(width))
	for i, w := range width {
		rule[i] = strings.Repeat("-", w-1) + ":"
	}
	rule[0] = strings.Repeat("-", width[0])
	line(rule)
	for _, row := range t.rows[1:] {
		line(row)
	}
	fmt.Fprintln(r.out)
}

// number formats a value with about three digits.
func number(v float64) string {
	switch {
	case v >= 1000 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// round rounds a duration to about three digits.
func round(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
