//go:build linux

package redisstore_test

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// For ten minutes with a program's usual intervals: go test -run TestAway -away 10m -timeout 30m -v
// .
var away = flag.Duration("away", 0, "how long TestAway takes the server away; 0: for 30 s, with intervals a hundredth as long")

// The server is down during a million updates a second: memory does not grow with the counts. The
// server comes back empty; then all counts are there, including those of a process that had ended
// before.
func TestAway(t *testing.T) { // not parallel: measures the heap
	const rate = 1_000_000 // per second
	query, d := "", *away
	if d == 0 {
		query, d = "interval=5ms&alive=200ms&max_retries=-1", 30*time.Second
	}
	s := startServer(t)
	url := s.url(query)
	job := open(t, url)
	job.NewCounterVec("c_total", "C.", nil, "x").With("job").Add(7)
	if err := job.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := open(t, url)
	c := r.NewCounterVec("c_total", "C.", nil, "x")
	h := r.NewHistogram("h", "H.", nil)
	var stop atomic.Bool
	var workers sync.WaitGroup
	counted := make([]int, 2) // by worker
	for i := range counted {
		workers.Add(1)
		go func() {
			defer workers.Done()
			x := c.With(fmt.Sprint(i))
			for n, begun := 0, time.Now(); !stop.Load(); time.Sleep(time.Millisecond) {
				for due := int(time.Since(begun).Seconds() * rate / 2 / float64(len(counted))); n < due; n++ {
					x.Inc()
					h.Observe(float64(n % 10))
				}
				counted[i] = n
			}
		}()
	}
	flush(t, r)
	page(t, r)
	before, allocated := heap()
	s.kill()
	begun := time.Now()
	time.Sleep(d) // the outage itself
	after, more := heap()
	took := time.Since(begun)
	if grown := after - before; grown > 1<<20 {
		t.Errorf("%v without a server take %d bytes", took, grown)
	}
	s.start()
	s.await("have a page", func() bool { return r.WriteText(new(strings.Builder)) == nil })
	stop.Store(true)
	workers.Wait()
	flush(t, r)
	total := 0
	want := []string{`c_total{x="job"} 7`}
	for i, n := range counted {
		total += n
		want = append(want, fmt.Sprintf("c_total{x=\"%d\"} %d", i, n))
	}
	want = append(want, fmt.Sprint("h_count ", total))
	for _, r := range []*gotheus.Registry{r, open(t, url)} {
		contains(t, page(t, r), want...)
	}
	t.Logf("%v without a server, %d updates in all: meanwhile the heap grew by %d bytes, and %d objects were allocated",
		took.Round(time.Second), 2*total, after-before, more-allocated)
	if total == 0 {
		t.Error("nothing was counted")
	}
}

// heap returns the memory in use and the total number of allocated objects.
func heap() (bytes, mallocs int64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.Mallocs)
}
