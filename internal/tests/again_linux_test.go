package tests_test

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
)

// A registry that is bound and closed again and again takes no more memory, descriptors, mappings
// and goroutines for it.
func TestBindAgainAndAgain(t *testing.T) { // not parallel: it measures the process
	url := shmURL(t)
	r, _ := newRegistry(t, nil)
	c := r.NewCounter("c_total", "C.", nil)
	s := r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}})
	each := r.NewGauge("each", "E.", &gotheus.GaugeOptions{Mode: gotheus.ModePerProcess})
	r.Register(gotheus.ProcessCollectorFunc(func(_ context.Context, s *gotheus.Sink) error {
		s.Gauge("g", "G.").Put(1)
		return nil
	}))
	total := 0
	rounds := func(n int) {
		for range n {
			bind(t, r, url)
			c.Inc()
			s.Observe(1)
			each.Set(1)
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			total++
		}
	}
	measure := func() (found [4]int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return [4]int{int(m.HeapAlloc), len(fds), strings.Count(string(maps), ".gotheus-v"), runtime.NumGoroutine()}
	}
	rounds(100)
	before := measure()
	rounds(2000)
	after := measure()
	if grown := after[0] - before[0]; grown > 256<<10 {
		t.Errorf("2000 rounds take %d bytes", grown)
	}
	for i, what := range []string{"descriptors", "mappings of files", "goroutines"} {
		if after[i+1] > before[i+1]+2 {
			t.Errorf("%s: %d, and before %d", what, after[i+1], before[i+1])
		}
	}
	bind(t, r, url)
	if got := int(c.Value()); got != total {
		t.Errorf("%d counted, want %d", got, total)
	}
}
