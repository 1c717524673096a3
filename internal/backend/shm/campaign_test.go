//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
)

var kills = flag.Int("kills", 60, "how many processes TestCrashCampaign kills")

// The crash campaign. Processes of several kinds use one file and are killed with SIGKILL at random
// moments; half of them are 32-bit programs where the machine can run these. Writers update
// counters with and without stripes, histograms, and exponential buckets that overflow into further
// blocks; folders have gauges that die with them; scrapers read; expirers delete the series they
// have created; creators kill themselves between two steps of a creation, mostly while holding the
// lock. Every update that has returned is acknowledged in a separate file. After every death the
// whole file is checked. In the end no acknowledged update may be missing, and there may be at most
// one more per goroutine, which was killed between update and acknowledgement.
//
// The long run: go test ./internal/backend/shm -run TestCrashCampaign -kills 5000 -timeout 60m -v

const (
	campaignSlots      = 6
	campaignGoroutines = 2
	campaignSeries     = 300
)

type campaignAcks [campaignSlots]struct {
	ready      atomic.Uint64 // the process has made progress
	goroutines [campaignGoroutines]struct {
		updates atomic.Uint64
		series  [campaignSeries]atomic.Uint64
	}
}

var (
	campaignCounter = &backend.Family{Name: "updates_total", Help: "Updates.", Kind: backend.Counter}
	campaignSizes   = &backend.Family{Name: "sizes", Help: "Sizes.", Kind: backend.Histogram, Buckets: []float64{1, 2, 4}}
	campaignStripes = &backend.Family{Name: "hot_total", Help: "Hot.", Kind: backend.Counter, Stripes: 4}
	campaignNative  = &backend.Family{Name: "native", Help: "Native.", Kind: backend.Histogram, Native: &backend.Native{Schema: 3, MaxBuckets: 160}}
	campaignFurther = campaignNative.With(backend.Block{Role: backend.BucketRole, Size: 128})
	campaignVec     = &backend.Family{Name: "series_total", Help: "Series.", Kind: backend.Counter, Labels: []string{"goroutine", "n"}}
	campaignBusy    = &backend.Family{Name: "busy", Help: "Busy.", Kind: backend.Gauge, Mode: backend.Sum}
)

// campaign starts and kills workers.
type campaign struct {
	*testing.T
	dir, path string
	acks      *campaignAcks
	programs  []string
	started   int
}

func (c *campaign) start(slot int, kind string, limit int) *exec.Cmd {
	c.acks[slot].ready.Store(0)
	cmd := exec.Command(c.programs[c.started%len(c.programs)])
	c.started++
	cmd.Env = append(os.Environ(), "GOTHEUS_SHM_WORKER="+kind, "FILE="+c.path, "ACKS="+filepath.Join(c.dir, "acks"), "SLOT="+strconv.Itoa(slot), "LIMIT="+strconv.Itoa(limit))
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	return cmd
}

// kill kills a process, and fails the test if it had ended in another way before.
func (c *campaign) kill(cmd *exec.Cmd) {
	c.Helper()
	cmd.Process.Kill()
	cmd.Wait()
	if s := cmd.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		c.Fatalf("%v: %s", cmd.ProcessState, cmd.Stdout)
	}
}

func (c *campaign) wait(slot int, cmd *exec.Cmd) {
	c.Helper()
	for deadline := time.Now().Add(2 * time.Minute); c.acks[slot].ready.Load() == 0; time.Sleep(50 * time.Microsecond) {
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			cmd.Wait()
			c.Fatalf("a process does nothing: %s", cmd.Stdout)
		}
	}
}

// programs returns this program and, if the machine can run it, its 32-bit version.
func programs(t *testing.T, dir string) []string {
	list := []string{os.Args[0]}
	if runtime.GOARCH != "amd64" {
		t.Logf("no 32-bit programs on %s", runtime.GOARCH)
		return list
	}
	other := filepath.Join(dir, "test386")
	build := exec.Command("go", "test", "-c", "-o", other, ".")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := exec.Command(other, "-test.run", "^$").Run(); err != nil {
		t.Logf("this machine cannot run 32-bit programs: %v", err)
		return list
	}
	return append(list, other)
}

func TestCrashCampaign(t *testing.T) {
	dir := t.TempDir()
	acks, err := backendtest.MapFile[campaignAcks](filepath.Join(dir, "acks"))
	if err != nil {
		t.Fatal(err)
	}
	c := &campaign{T: t, dir: dir, path: filepath.Join(dir, "shop"), acks: acks, programs: programs(t, dir)}
	runtime.LockOSThread() // Pdeathsig is about the thread that started the child
	defer runtime.UnlockOSThread()
	const limit = 16 << 20
	b := open(t, c.path, &Options{Limit: limit})
	kinds := [campaignSlots]string{"writer", "writer", "creator", "folder", "scraper", "expirer"}
	var running [campaignSlots]*exec.Cmd
	for slot, kind := range kinds {
		running[slot] = c.start(slot, kind, limit)
	}
	died := map[string]int{}
	var took, worked []time.Duration // by the creator that follows one that died with the lock
	for n := range *kills {
		slot := n % campaignSlots
		c.wait(slot, running[slot])
		if kinds[slot] == "creator" {
			running[slot].Wait() // it kills itself
			b.lockSkippedUntil.Store(0)
			began, had := time.Now(), threadTime(t)
			cells(t, b, campaignVec, fmt.Sprintf(`goroutine="next",n="%d"`, n))
			took, worked = append(took, time.Since(began)), append(worked, threadTime(t)-had)
		} else if d := rand.IntN(2000); d > 0 {
			time.Sleep(time.Duration(d) * time.Microsecond) // kill at a random moment
		}
		c.kill(running[slot])
		died[kinds[slot]]++
		b.Reclaim(func([]backend.Retired) {})
		if kinds[slot] == "folder" {
			// Every process sees that it is gone, and nobody takes its place.
			if n := liveParts(t, b); n != 0 {
				t.Fatalf("the gauges of %d dead processes count", n)
			}
		}
		checkFileNow(t, b.Path())
		if t.Failed() {
			t.FailNow()
		}
		running[slot] = c.start(slot, kinds[slot], limit)
	}
	for slot := range running {
		c.wait(slot, running[slot])
		c.kill(running[slot])
		died[kinds[slot]]++
	}
	c.verify(b, died["writer"])
	r := checkFileNow(t, b.Path())
	used, reused := r.Used, b.mem.u64(offReused).Load()
	b.Close(t.Context())

	// Nobody has the file open now: processes that open it rewrite it with another limit, and
	// are killed meanwhile.
	for n := range *kills / 10 {
		cmd := c.start(0, "rewriter", limit-(n%2+1)<<20)
		time.Sleep(time.Duration(rand.IntN(12000)) * time.Microsecond)
		c.kill(cmd)
		died["rewriter"]++
		checkFileNow(t, b.Path())
	}
	c.verify(open(t, c.path, &Options{Limit: limit}), died["writer"])
	t.Logf("%v killed, programs %d; %d bytes used, %d of them waste; space was reused %d times", died, len(c.programs), used, r.Waste, reused)
	if reused == 0 {
		t.Error("no space was reused")
	}
	for what, list := range map[string][]time.Duration{"took": took, "of which the thread ran for": worked} {
		if slices.Sort(list); len(list) > 0 {
			t.Logf("a creator after one that died holding the lock %s %v (median), %v (90 %%), %v (max), of %d",
				what, list[len(list)/2], list[len(list)*9/10], list[len(list)-1], len(list))
		}
	}
}

// threadTime returns the CPU time of this thread.
func threadTime(t *testing.T) time.Duration {
	const threadClock = 3 // CLOCK_THREAD_CPUTIME_ID
	var at syscall.Timespec
	if _, _, err := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, threadClock, uintptr(unsafe.Pointer(&at)), 0); err != 0 {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

// verify compares what was counted with what was acknowledged.
func (c *campaign) verify(b *Backend, deaths int) {
	c.Helper()
	var acked uint64
	lost, over := uint64(0), uint64(0)
	for slot := range c.acks {
		for g := range c.acks[slot].goroutines {
			mine := &c.acks[slot].goroutines[g]
			acked += mine.updates.Load()
			for n := range mine.series {
				want := mine.series[n].Load()
				if want == 0 {
					continue
				}
				got := cells(c, b, campaignVec, campaignLabels(slot, g, n))[0].Load()
				lost += max(want, got) - got
				over += max(want, got) - want
			}
		}
	}
	most := uint64(deaths * campaignGoroutines)
	total := cells(c, b, campaignCounter, "")[0].Load()
	observed := uint64(0)
	for _, w := range loadWords(cells(c, b, campaignSizes, "")[backend.HistogramBuckets:][:4]) {
		observed += w
	}
	striped := uint64(0)
	hot := cells(c, b, campaignStripes, "")
	for i := range campaignStripes.Stripes {
		striped += hot[i*campaignStripes.StripeWords()].Load()
	}
	native := uint64(0)
	for _, f := range []*backend.Family{campaignNative, campaignFurther} {
		block := campaignBlock(f, cells(c, b, f, ""))
		list, _ := block.Append(nil)
		for _, bucket := range list {
			native += bucket.Count
		}
	}
	for what, n := range map[string]uint64{"counted": total, "observed": observed, "in stripes": striped, "in exponential buckets": native} {
		if n < acked || n > acked+most {
			c.Errorf("%d updates acknowledged, %d %s; at most %d more are possible", acked, n, what, most)
		}
	}
	if lost > 0 || over > most {
		c.Errorf("series: %d lost, %d unacknowledged; at most %d are possible", lost, over, most)
	}
	c.Logf("%d updates acknowledged, %d counted", acked, total)
}

func loadWords(w backend.Words) []uint64 {
	list := make([]uint64, len(w))
	for i := range w {
		list[i] = w[i].Load()
	}
	return list
}
