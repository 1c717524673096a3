package tests_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

func pageIn(t *testing.T, r *gotheus.Registry, f expo.Format) string {
	t.Helper()
	var b strings.Builder
	if err := r.Write(t.Context(), &b, &gotheus.WriteOptions{Format: f}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A registry refuses names that become equal for scrapers without UTF-8 support.
func TestNamesThatClash(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	r.NewCounter("a.b_total", "A.", nil)
	r.NewHistogram("h", "H.", nil)
	for _, err := range []error{
		second(gotheus.TryNew[gotheus.Counter](r, "a_b_total", "A.", nil)),
		second(gotheus.TryNew[gotheus.Gauge](r, "a_b", "A.", nil)),
		second(gotheus.TryNew[gotheus.Gauge](r, "a-b_created", "A.", nil)),
		second(gotheus.TryNew[gotheus.Gauge](r, "h.bucket", "H.", nil)),
		second(gotheus.TryNew[gotheus.Counter](r, "h", "H.", nil)),
	} {
		if !errors.Is(err, gotheus.ErrConflict) {
			t.Errorf("got %v", err)
		}
	}
}

// If such names come from other processes, or clash in a rarely requested escaping, the page stays
// valid.
func TestEscapedPages(t *testing.T) {
	t.Parallel()
	b := heap.New()
	one, log := newRegistry(t, nil)
	two, _ := newRegistry(t, nil)
	for _, r := range []*gotheus.Registry{one, two} {
		if err := r.BindBackend(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	one.NewCounter("a-b_total", "First.", nil).Inc()
	two.NewCounter("a.b_total", "Second.", nil).Inc()
	one.NewGaugeVec("g", "G.", nil, "x.y").With("1").Set(1)
	two.NewGaugeVec("g", "G.", nil, "x-y").With("1").Set(2)
	one.NewGaugeVec("d", "D.", nil, "p.q").With("v").Set(3)
	one.NewGauge("z_total", "Z.", nil).Set(1)
	two.NewCounter("z_total_total", "Clashes with z_total.", nil)

	utf8 := expo.Format{Syntax: expo.Text1, Escaping: expo.AllowUTF8}
	p := pageIn(t, one, utf8)
	for _, want := range []string{`{"a-b_total"} 1`, `{"a.b_total"} 1`, `g{"x.y"="1"} 1`, `g{"x-y"="1"} 2`, `d{"p.q"="v"} 3`} {
		if !strings.Contains(p, want+"\n") {
			t.Errorf("no %s in %s", want, p)
		}
	}
	p = pageIn(t, one, expo.Format{})
	if strings.Count(p, "\na_b_total ") != 1 || strings.Count(p, "\ng{") != 1 || !strings.Contains(p, "\nd{p_q=\"v\"} 3\n") || strings.Contains(p, "Clashes") {
		t.Errorf("got %s", p)
	}
	if !strings.Contains(p, "gotheus_hidden_series 3\n") || !strings.Contains(log.String(), "left out") {
		t.Errorf("hidden series are not counted, or not logged: %s %s", p, log)
	}
	p = pageIn(t, one, expo.Format{Escaping: expo.Values})
	for _, want := range []string{`U__a_2d_b__total 1`, `U__a_2e_b__total 1`, `g{U__x_2e_y="1"} 1`, `g{U__x_2d_y="1"} 2`} {
		if !strings.Contains(p, want+"\n") {
			t.Errorf("no %s in %s", want, p)
		}
	}
	// A family of a collector.
	three, _ := newRegistry(t, nil)
	three.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("odd", "O.", "a.b", "a_b").Put(1, "x", "y")
		s.Gauge("fine.one", "F.", "a.b").Put(1, "x")
		return nil
	}))
	if p := pageIn(t, three, expo.Format{}); strings.Contains(p, "odd") || !strings.Contains(p, "fine_one{a_b=\"x\"} 1\n") {
		t.Errorf("got %s", p)
	}
	if p := pageIn(t, three, utf8); !strings.Contains(p, `odd{"a.b"="x",a_b="y"} 1`) {
		t.Errorf("got %s", p)
	}
}

// The samples of a state set have a label with its own name, which is escaped, and may clash, like
// any other.
func TestEscapedStateSets(t *testing.T) {
	t.Parallel()
	states := []string{"on"}
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	_, err := gotheus.TryNewStateSetVec(r, "a.b", "A.", states, nil, "a_b")
	isErr(t, err, gotheus.ErrInvalid, "two of them become equal")
	r.NewStateSet("c.d", "C.", states, nil)
	r.Register(sinkFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.StateSet("g.h", "G.", states, "g_h").Put(nil, "v")
		s.StateSet("i.j", "I.", states).Put(nil)
		return nil
	}))
	want := "# HELP c_d C.\n# TYPE c_d gauge\nc_d{c_d=\"on\"} 0\n# HELP i_j I.\n# TYPE i_j gauge\ni_j{i_j=\"on\"} 0\n"
	if got := pageIn(t, r, expo.Format{}); got != want {
		t.Errorf("got %s", got)
	}
}
