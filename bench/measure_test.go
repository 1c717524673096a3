package main

import (
	"strings"
	"testing"
	"time"
)

// TestTables measures everything once, as briefly as possible, and checks that each table is
// complete.
func TestTables(t *testing.T) {
	for _, table := range tables(100) {
		e := &env{dir: t.TempDir()}
		contenders, err := table.contenders(e)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		table.print(&out, measure(contenders, table, 1, time.Millisecond))
		e.close()
		rows := 0
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "| ") {
				rows++
			}
		}
		if want := 1 + len(contenders); rows != want {
			t.Errorf("%s has %d rows, want %d:\n%s", table.title, rows, want, out.String())
		}
		theirs := false
		for _, c := range contenders {
			theirs = theirs || strings.HasPrefix(c.name, peer)
			if c.floor == "" {
				continue
			}
			floors := 0
			for _, f := range contenders {
				if f.name == c.floor {
					floors++
				}
			}
			if floors != 1 {
				t.Errorf("%s: %s has %d floors", table.title, c.name, floors)
			}
		}
		if !theirs && !strings.HasPrefix(table.title, "Growth: a page") && !strings.HasPrefix(table.title, "Growth: new") {
			t.Errorf("%s: %s is missing", table.title, peer)
		}
	}
}

func TestVerdict(t *testing.T) {
	table := &table{title: "T", goroutines: 1, limit: 1.15}
	floor, fast, slow := contender{name: "floor"}, contender{name: ours + " a", floor: "floor"}, contender{name: ours + " b", floor: "floor"}
	var out strings.Builder
	table.print(&out, []result{
		{contender: &floor, min: 10, median: 11},
		{contender: &fast, min: 11.4, median: 30},
		{contender: &slow, min: 11.6, median: 12},
	})
	for _, want := range []string{
		"gotheus a is within 1.15x of floor: 1.140x", "gotheus b is NOT within 1.15x of floor: 1.160x", "| gotheus a | 30.00 ns | 11.40 ns | 2.73 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
}
