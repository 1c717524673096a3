package expvars_test

import (
	"expvar"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/collectors/expvars"
	"github.com/gotheus/gotheus/expo"
)

var broken func() // nil, but in one test

func init() {
	expvar.NewInt("test.requests").Set(7)
	expvar.NewFloat("test.load").Set(.5)
	expvar.NewString("test.name").Set("not a number")
	m := expvar.NewMap("test.codes")
	m.Add("200", 3)
	m.Add("500", 1)
	expvar.Publish("test.broken", expvar.Func(func() any {
		if broken != nil {
			broken()
		}
		return "no number"
	}))
	expvar.Publish("test.ready", expvar.Func(func() any { return true }))
	expvar.Publish("test.tree", expvar.Func(func() any {
		return map[string]any{"a": map[string]any{"x": 1, "y": 2}, "b": map[string]any{"x": 3}}
	}))
}

func page(t *testing.T, c *expvars.Collector) string {
	t.Helper()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler)})
	r.Register(c)
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAll(t *testing.T) {
	t.Parallel()
	p := page(t, new(expvars.Collector))
	for _, line := range []string{
		"# HELP expvar_test_requests The variable \"test.requests\" of package expvar.", "# TYPE expvar_test_requests untyped",
		"expvar_test_requests 7", "expvar_test_load 0.5", "expvar_test_ready 1",
		`expvar_test_codes{key="200"} 3`, `expvar_test_codes{key="500"} 1`, "gotheus_collector_errors_total 0",
	} {
		if !strings.Contains("\n"+p, "\n"+line+"\n") {
			t.Errorf("the page lacks %q:\n%s", line, p)
		}
	}
	if !strings.Contains(p, `expvar_memstats{key="Mallocs"} `) || strings.Contains(p, "test_name") {
		t.Errorf("got %s", p)
	}
}

func TestChosen(t *testing.T) {
	t.Parallel()
	p := page(t, &expvars.Collector{Vars: map[string]expvars.Var{
		"test.requests": {Name: "requests_total", Help: "R.", Type: expo.Counter},
		"test.load":     {Name: "load", Help: "L.", Type: expo.Gauge},
		"test.tree":     {Name: "tree", Help: "T.", Labels: []string{"branch", "leaf"}},
		"test.none":     {Name: "none", Help: "N."},
	}})
	want := `# HELP gotheus_collector_errors_total Collectors, or single families of collectors, left out of a page because of an error.
# TYPE gotheus_collector_errors_total counter
gotheus_collector_errors_total 0
# HELP load L.
# TYPE load gauge
load 0.5
# HELP requests_total R.
# TYPE requests_total counter
requests_total 7
# HELP tree T.
# TYPE tree untyped
tree{branch="a",leaf="x"} 1
tree{branch="a",leaf="y"} 2
tree{branch="b",leaf="x"} 3
`
	if p != want {
		t.Errorf("got %s", p)
	}
	// What is not as it was said to be costs itself.
	p = page(t, &expvars.Collector{Vars: map[string]expvars.Var{
		"test.name": {Name: "name", Help: "N."},
		"test.load": {Name: "load", Help: "L."},
	}})
	if !strings.Contains(p, "load 0.5\n") || strings.Contains(p, "# HELP name") || !strings.Contains(p, "errors_total 1\n") {
		t.Errorf("got %s", p)
	}
}

// A function that panics costs its own variable, and none is called while others could not be
// published.
func TestBroken(t *testing.T) { // not in parallel: for all others it is not broken
	defer func() { broken = nil }()
	broken = func() { panic("oops") }
	p := page(t, new(expvars.Collector))
	if !strings.Contains(p, "expvar_test_requests 7\n") || !strings.Contains(p, "errors_total 1\n") {
		t.Errorf("got %s", p)
	}
	p = page(t, &expvars.Collector{Vars: map[string]expvars.Var{
		"test.broken": {Name: "broken", Help: "B."},
		"test.load":   {Name: "load", Help: "L."},
	}})
	if !strings.Contains(p, "load 0.5\n") || !strings.Contains(p, "errors_total 1\n") {
		t.Errorf("got %s", p)
	}
	broken = func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			expvar.Publish(fmt.Sprintf("test.new%d", published.Add(1)), new(expvar.String))
		}()
		select {
		case <-done:
		case <-time.After(2 * time.Minute):
			t.Error("a variable could not be published while a function was called")
		}
	}
	page(t, new(expvars.Collector))
}

var published atomic.Int64

func ExampleCollector() {
	expvar.NewMap("cache").Add("hits", 3)
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	r.Register(&expvars.Collector{Vars: map[string]expvars.Var{
		"cache": {Name: "cache_lookups_total", Help: "Look-ups, by result.", Type: expo.Counter, Labels: []string{"result"}},
	}})
	var b strings.Builder
	r.WriteText(&b)
	fmt.Print(b.String())
	// Output:
	// # HELP cache_lookups_total Look-ups, by result.
	// # TYPE cache_lookups_total counter
	// cache_lookups_total{result="hits"} 3
}

// A type that variables cannot have is an error, and nothing is shown.
func TestTypeThatIsNone(t *testing.T) {
	t.Parallel()
	p := page(t, &expvars.Collector{Vars: map[string]expvars.Var{"test.load": {Name: "load", Help: "L.", Type: expo.Histogram}}})
	if strings.Contains(p, "load") || !strings.Contains(p, "gotheus_collector_errors_total 1\n") {
		t.Errorf("got %s", p)
	}
}
