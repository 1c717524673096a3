//go:build linux

package redisstore_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
)

// A server that refuses values of more than a megabyte, which is the least that one can be set to,
// gets label texts of any length, and the pages of all processes are complete.
func TestLongLabelTexts(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--proto-max-bulk-len", "1mb")
	a, b := open(t, s.url("")), open(t, s.url(""))
	text := strings.Repeat("x", 60<<10)
	o := &gotheus.CounterOptions{MaxSeries: -1, MaxValueLength: -1}
	v := a.NewCounterVec("v_total", "V.", o, "x")
	for i := range 200 {
		v.With(fmt.Sprint(text, i)).Inc()
	}
	flush(t, a)
	check := func(r *gotheus.Registry, what string, n int) {
		t.Helper()
		if p := page(t, r); strings.Count(p, "\nv_total{") != n || strings.Count(p, `"} 1`+"\n") < n {
			t.Errorf("%s: %d of %d series", what, strings.Count(p, "\nv_total{"), n)
		}
	}
	check(b, "another process", 200)
	// One that leaves at once.
	c := open(t, s.url(""))
	w := c.NewCounterVec("v_total", "V.", o, "x")
	for i := range 100 {
		w.With(fmt.Sprint(text, 200+i)).Inc()
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	check(b, "after one has left", 300)
}
