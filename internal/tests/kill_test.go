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
	"time"
	"unsafe"

	"github.com/gotheus/gotheus"
)

var kills = flag.Int("kills", 50, "how many workers TestKill kills")

// The kill campaign. Workers update a shared counter, histogram and gauge and create new series as
// fast as they can. Each of their goroutines acknowledges an update, after the call has returned,
// in a word of a separate file. The parent kills workers with SIGKILL at random moments and starts
// others. In the end, no acknowledged update may be missing, and each killed goroutine may have
// made at most one more, between the call and its acknowledgement.
//
// The long run: go test -run TestKill -kills 1000 -timeout 30m .

const (
	killWorkers    = 4
	killGoroutines = 3
	killSeries     = 400 // created by each goroutine, over and over
)

// killAcks is the layout of the file of acknowledgements.
type killAcks [killWorkers][killGoroutines]struct {
	updates atomic.Uint64
	series  [killSeries]atomic.Uint64
}

func mapAcks(path string) (*killAcks, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(killAcks{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*killAcks)(unsafe.Pointer(unsafe.SliceData(m))), nil
}

func init() { workers["kill"] = killWorker }

func killWorker() {
	acks, err := mapAcks(os.Getenv("ACKS"))
	if err != nil {
		panic(err)
	}
	slot, _ := strconv.Atoi(os.Getenv("SLOT"))
	c := gotheus.NewCounter("updates_total", "Updates.", nil)
	f := gotheus.NewCounter("halves_total", "Halves.", nil)
	h := gotheus.NewHistogram("observed", "Observations.", &gotheus.HistogramOptions{Buckets: []float64{1, 2}})
	v := gotheus.NewCounterVec("series_total", "Series.", nil, "goroutine", "n")
	if err := gotheus.Bind(context.Background(), os.Getenv("FILE")); err != nil {
		panic(err)
	}
	for g := range killGoroutines {
		go func() {
			mine := &acks[slot][g]
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

func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := "shm://" + filepath.Join(dir, "shop") + "?fs=any&limit=16MiB"
	acks, err := mapAcks(filepath.Join(dir, "acks"))
	if err != nil {
		t.Fatal(err)
	}
	start := func(slot int) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=kill", "FILE="+url, "ACKS="+filepath.Join(dir, "acks"), "SLOT="+fmt.Sprint(slot))
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	acked := func(slot int) (n uint64) {
		for g := range acks[slot] {
			n += acks[slot][g].updates.Load()
		}
		return n
	}
	var running [killWorkers]*exec.Cmd
	runtime.LockOSThread() // Pdeathsig refers to the thread that started the child
	defer runtime.UnlockOSThread()
	for slot := range running {
		running[slot] = start(slot)
	}
	r, _ := newRegistry(t, nil)
	for n := range *kills + killWorkers {
		slot := n % killWorkers
		// Once it has begun, at a random moment of its work.
		target := acked(slot) + rand.Uint64N(3000)
		for deadline := time.Now().Add(2 * time.Minute); acked(slot) <= target; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("worker %d makes no progress", slot)
			}
		}
		running[slot].Process.Kill()
		running[slot].Wait()
		if n < *kills {
			running[slot] = start(slot)
		}
		if n == 0 {
			bind(t, r, url)
		}
		if n%10 == 0 {
			page(t, r) // incomplete operations do not prevent reading
		}
	}

	var updates uint64
	for slot := range acks {
		updates += acked(slot)
	}
	// Each of the killed goroutines may have been between an update and its acknowledgement.
	deaths := uint64(*kills + killWorkers)
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
