package interleave

import (
	"errors"
	"flag"
	"testing"
	"time"
)

var (
	kills = flag.Int("kills", 1, "how many processes are killed in each execution")
	limit = flag.Int("states", 2_000_000, "how many states of a scenario are explored at most")
	trace = flag.Bool("trace", false, "show how mistakes are found")
)

// scenario is a model with right actors, and the mistakes that the explorer must find in it.
type scenario struct {
	name     string
	model    func(wrong string) *Model
	mistakes []string
}

// explore explores scenarios as they are, and with each of their mistakes.
func explore(t *testing.T, scenarios []scenario) {
	var sum Result
	begin := time.Now()
	found := 0
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			start := time.Now()
			m := s.model("")
			m.Crashes, m.Weak, m.Limit = *kills, true, *limit
			r, err := m.Explore()
			t.Logf("%v (%v)", r, time.Since(start).Round(time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			sum.States += r.States
			sum.Steps += r.Steps
			sum.Executions += r.Executions
			sum.Crashed += r.Crashed
			sum.Ends += r.Ends
			sum.Longest = max(sum.Longest, r.Longest)
			for _, wrong := range s.mistakes {
				m := s.model(wrong)
				m.Crashes, m.Weak, m.Limit = *kills, true, *limit
				r, err := m.Explore()
				var v *Violation
				if !errors.As(err, &v) {
					t.Errorf("%s: not found in %v: %v", wrong, r, err)
					continue
				}
				found++
				t.Logf("mistake %q: %v, after %d steps", wrong, v.Err, len(v.Trace))
				if *trace {
					t.Log(v)
				}
			}
		})
	}
	t.Logf("%d scenarios: %v; %d mistakes found; %v", len(scenarios), sum, found, time.Since(begin).Round(time.Millisecond))
}
