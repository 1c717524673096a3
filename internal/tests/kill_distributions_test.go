//go:build linux

package tests_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
)

// Like TestKill, for instruments that change several words per observation. Workers are killed
// while they observe, and every page is still valid: the buckets add up to the count and do not
// exceed their maximum, quantiles are of observed values, no exemplar is torn, and no acknowledged
// observation is missing.

const killBuckets = 40

func init() { workers["kill distributions"] = killDistributionsWorker }

func killDistributions(r *gotheus.Registry) (*gotheus.Histogram, *gotheus.Summary) {
	return r.NewHistogram("h", "H.", &gotheus.HistogramOptions{
			Native: &gotheus.NativeOptions{Factor: 1.05, MaxBuckets: killBuckets}, Buckets: []float64{.5, 1},
		}),
		r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5, .99}, MaxAge: 50 * time.Millisecond})
}

func killDistributionsWorker() {
	acks, err := mapAcks(os.Getenv("ACKS"))
	if err != nil {
		panic(err)
	}
	slot, _ := strconv.Atoi(os.Getenv("SLOT"))
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	h, s := killDistributions(r)
	if err := r.Bind(context.Background(), os.Getenv("FILE")); err != nil {
		panic(err)
	}
	for g := range killGoroutines {
		go func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for {
				n := rnd.IntN(60)
				v := math.Exp2(rnd.NormFloat64() * 10)
				if g == 0 {
					h.ObserveExemplar(v, gotheus.Labels{"text": strings.Repeat(string(rune('a'+n%26)), n), "v": fmt.Sprint(v)})
				} else {
					h.Observe(v)
				}
				s.Observe(v)
				acks[slot][g].updates.Add(1)
			}
		}()
	}
	select {}
}

func TestKillWhileObserving(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := "shm://" + filepath.Join(dir, "shop") + "?fs=any&limit=8MiB"
	acks, err := mapAcks(filepath.Join(dir, "acks"))
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := func(slot int) *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GOTHEUS_TEST_WORKER=kill distributions", "FILE="+url, "ACKS="+filepath.Join(dir, "acks"), "SLOT="+fmt.Sprint(slot))
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	acked := func() (n uint64) {
		for slot := range acks {
			for g := range acks[slot] {
				n += acks[slot][g].updates.Load()
			}
		}
		return n
	}
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	killDistributions(r)
	bind(t, r, url)
	exemplars, quantiles := 0, 0
	check := func(least uint64) (count uint64) {
		d := distributions(r, "h")[""]
		n := d.Native
		total := n.ZeroCount
		for _, b := range slices.Concat(n.Positive, n.Negative) {
			total += b.Count
		}
		if total != d.Count || len(n.Positive)+len(n.Negative) > killBuckets || !slices.IsSorted(d.Buckets) || d.Buckets[len(d.Buckets)-1] > d.Count || d.Count < least {
			t.Errorf("count %d, acknowledged %d, %d exponential buckets with %d, buckets %v", d.Count, least, len(n.Positive), total, d.Buckets)
		}
		for i, e := range d.Exemplars {
			if e.Time == 0 {
				continue
			}
			exemplars++
			text, v, _ := strings.Cut(strings.TrimPrefix(e.Labels, `text="`), `",v="`)
			if text != "" && text != strings.Repeat(text[:1], len(text)) || v != fmt.Sprint(e.Value)+`"` || i < 2 && e.Value > []float64{.5, 1}[i] {
				t.Errorf("bucket %d has exemplar %+v", i, e)
			}
		}
		q := distributions(r, "s")[""]
		if q.Count < least || !(q.Quantiles[0] <= q.Quantiles[1]) && !math.IsNaN(q.Quantiles[0]) || q.Quantiles[1] <= 0 {
			t.Errorf("count %d, acknowledged %d, quantiles %v", q.Count, least, q.Quantiles)
		}
		if !math.IsNaN(q.Quantiles[0]) {
			quantiles++
		}
		return d.Count
	}
	var running [killWorkers]*exec.Cmd
	for slot := range running {
		running[slot] = start(slot)
	}
	for n := range *kills/2 + killWorkers {
		slot := n % killWorkers
		target := acked() + rand.Uint64N(3000)
		for deadline := time.Now().Add(2 * time.Minute); acked() <= target; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("no worker makes progress")
			}
		}
		running[slot].Process.Kill()
		running[slot].Wait()
		check(acked())
		if n < *kills/2 {
			running[slot] = start(slot)
		}
	}
	deaths := uint64(*kills/2 + killWorkers)
	if got := check(acked()); got > acked()+deaths*killGoroutines {
		t.Errorf("count %d, acknowledged %d, possible %d more", got, acked(), deaths*killGoroutines)
	}
	if exemplars == 0 || quantiles == 0 {
		t.Errorf("%d exemplars and %d quantiles seen: nothing was tested", exemplars, quantiles)
	}
	t.Logf("%d kills, %d observations, %d exemplars seen", deaths, acked(), exemplars)
}
