//go:build linux

package tests_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

var kills = flag.Int("kills", 50, "how many workers TestKill kills")

// The kill campaigns. Workers update metrics of one file as fast as they can. Each of their
// goroutines acknowledges an update, after the call has returned, in a word of a separate file. The
// parent kills workers with SIGKILL at random moments and starts others. In the end, no
// acknowledged update may be missing, and each killed goroutine may have made at most one more,
// between the call and its acknowledgement.
//
// The long run: go test -run TestKill -kills 1000 -timeout 30m .

const (
	killWorkers    = 4
	killGoroutines = 3
	killSeries     = 400 // created by each goroutine, over and over
)

// killAcks is the layout of the file of acknowledgements.
type killAcks [killWorkers]workerAcks

type workerAcks [killGoroutines]struct {
	updates atomic.Uint64
	series  [killSeries]atomic.Uint64
}

// total returns the acknowledged updates of a worker.
func (a *workerAcks) total() (n uint64) {
	for g := range a {
		n += a[g].updates.Load()
	}
	return n
}

// total returns the acknowledged updates of all workers.
func (a *killAcks) total() (n uint64) {
	for slot := range a {
		n += a[slot].total()
	}
	return n
}

// killJob returns what a worker has to know: its number, and where its goroutines acknowledge.
func killJob() (slot int, acks *workerAcks) {
	all, err := backendtest.MapFile[killAcks](os.Getenv("ACKS"))
	if err != nil {
		panic(err)
	}
	slot, _ = strconv.Atoi(os.Getenv("SLOT"))
	return slot, &all[slot]
}
func init() { workers["kill"] = killWorker }

// campaign is what a parent knows of the workers.
type campaign struct {
	*testing.T
	job, dir, url string
	acks          *killAcks
	running       [killWorkers]*exec.Cmd
}

func newCampaign(t *testing.T, job string) *campaign {
	t.Helper()
	c := &campaign{T: t, job: job, dir: t.TempDir()}
	c.url = "shm://" + filepath.Join(c.dir, "shop") + "?fs=any&limit=16MiB"
	var err error
	if c.acks, err = backendtest.MapFile[killAcks](filepath.Join(c.dir, "acks")); err != nil {
		t.Fatal(err)
	}
	return c
}

// run starts all workers, kills them in turn, and starts others, until the given number was killed
// and replaced. In the end it kills the rest. It calls after, with the number of deaths so far,
// after each death, and returns how many there were.
func (c *campaign) run(replaced int, after func(deaths int)) (deaths int) {
	c.Helper()
	runtime.LockOSThread() // Pdeathsig refers to the thread that started the child
	defer runtime.UnlockOSThread()
	for slot := range c.running {
		c.start(slot)
	}
	for deaths < replaced+killWorkers {
		slot := deaths % killWorkers
		c.kill(slot)
		deaths++
		if deaths <= replaced {
			c.start(slot)
		}
		after(deaths)
	}
	return deaths
}

func (c *campaign) start(slot int) {
	c.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER="+c.job, "FILE="+c.url, "ACKS="+filepath.Join(c.dir, "acks"), "SLOT="+fmt.Sprint(slot))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	c.running[slot] = cmd
}

// kill kills a worker at a random moment of its work, once it has begun.
func (c *campaign) kill(slot int) {
	c.Helper()
	target := c.acks[slot].total() + rand.Uint64N(3000)
	backendtest.Eventually(c, fmt.Sprintf("worker %d makes progress", slot), func() bool { return c.acks[slot].total() > target })
	c.running[slot].Process.Kill()
	c.running[slot].Wait()
}

func killWorker() {
	slot, acks := killJob()
	c := gotheus.NewCounter("updates_total", "Updates.", nil)
	f := gotheus.NewCounter("halves_total", "Halves.", nil)
	h := gotheus.NewHistogram("observed", "Observations.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}})
	v := gotheus.NewCounterVec("series_total", "Series.", nil, "goroutine", "n")
	if err := gotheus.Bind(context.Background(), os.Getenv("FILE")); err != nil {
		panic(err)
	}
	for g := range killGoroutines {
		go func() {
			mine := &acks[g]
			name := fmt.Sprint(slot, "-", g)
			for i := 0; ; i++ {
				c.Inc()
				f.Add(.5)
				h.Observe(float64(i % 3))
				mine.updates.Add(1)
				if i%8 == 0 {
					n := int(mine.series[0].Load()+uint64(i/8)) % killSeries
					v.With(name, strconv.Itoa(n)).Inc()
					mine.series[n].Add(1)
				}
			}
		}()
	}
	select {}
}

// What is updated are a counter, by integers and by fractions, a histogram, and series that are
// created meanwhile.
func TestKill(t *testing.T) {
	t.Parallel()
	c := newCampaign(t, "kill")
	r, _ := newRegistry(t, nil)
	deaths := uint64(c.run(*kills, func(deaths int) {
		if deaths == 1 {
			bind(t, r, c.url)
		}
		if deaths%10 == 1 {
			page(t, r) // incomplete operations do not prevent reading
		}
	}))
	acks, updates := c.acks, c.acks.total()
	// Each of the killed goroutines may have been between an update and its acknowledgement.
	within := func(what string, got float64, each float64) {
		t.Helper()
		if least, most := float64(updates)*each, float64(updates+deaths*killGoroutines)*each; got < least || got > most {
			t.Errorf("%s: %v, acknowledged %v, possible %v", what, got, least, most)
		}
	}
	h := r.NewHistogram("observed", "Observations.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}})
	within("integers", r.NewCounter("updates_total", "Updates.", nil).Value(), 1)
	within("floats", r.NewCounter("halves_total", "Halves.", nil).Value(), .5)
	within("histogram", float64(h.Count()), 1)
	v := r.NewCounterVec("series_total", "Series.", nil, "goroutine", "n")
	for slot := range acks {
		for g := range acks[slot] {
			over := 0.0
			for n := range killSeries {
				got, ack := v.With(fmt.Sprint(slot, "-", g), strconv.Itoa(n)).Value(), float64(acks[slot][g].series[n].Load())
				if got < ack {
					t.Errorf("series %d-%d %d: %v, acknowledged %v", slot, g, n, got, ack)
				}
				over += got - ack
			}
			if over > float64(deaths) {
				t.Errorf("series %d-%d: %v more than acknowledged", slot, g, over)
			}
		}
	}
	t.Logf("%d kills, %d updates acknowledged, %.0f counted", deaths, updates, r.NewCounter("updates_total", "Updates.", nil).Value())
}
