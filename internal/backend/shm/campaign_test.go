//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
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
	"github.com/gotheus/gotheus/internal/sparse"
)

var kills = flag.Int("kills", 60, "how many processes TestCrashCampaign kills")

// The crash campaign. Processes of several kinds use one file, half of them as 32-bit programs where the
// machine can run these, and are killed with SIGKILL at random moments: writers of counters with and without
// stripes, of histograms, and of exponential buckets that go on in further blocks; folders, whose gauges go with
// them; scrapers; expirers, which delete what they have made; creators, which kill themselves between two steps
// of a creation, most of them holding the lock. What an update has returned from is acknowledged in a
// file that has nothing to do with ours. After every death, everything that the file says is checked; in the
// end, no acknowledged update may be missing, and beyond them there may be no more than the one of each
// goroutine that was cut between update and acknowledgement.
//
// The long run: go test ./internal/backend/shm -run TestCrashCampaign -kills 5000 -timeout 60m -v

const (
	campaignSlots      = 6
	campaignGoroutines = 2
	campaignSeries     = 300
)

type campaignAcks [campaignSlots]struct {
	ready      atomic.Uint64 // the process has done something
	goroutines [campaignGoroutines]struct {
		updates atomic.Uint64
		series  [campaignSeries]atomic.Uint64
	}
}

func mapCampaign(path string) (*campaignAcks, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(campaignAcks{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*campaignAcks)(unsafe.Pointer(unsafe.SliceData(m))), nil
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

// campaignBlock returns the exponential buckets in the words of a series.
func campaignBlock(f *backend.Family, w backend.Words) sparse.Block {
	return sparse.View(f.BucketBlock(w), f.PerDoubling(), f.Shift(), f.Snapshots())
}

// observeNative counts in one of 64 buckets, half of which have room in the first block.
func observeNative(first, further *sparse.Block, i int) {
	w := first.Find(int32(i%64), false)
	if w == nil {
		w = further.Find(int32(i%64), false)
	}
	w.Add(1)
}

func campaignLabels(slot, g, n int) string {
	return fmt.Sprintf(`goroutine="%d-%d",n="%d"`, slot, g, n)
}

// TestMain lets the test binary be a process that a test starts.
func TestMain(m *testing.M) {
	if kind := os.Getenv("GOTHEUS_SHM_WORKER"); kind != "" {
		workers[kind](kind)
		return
	}
	backendtest.Worker(conforming.Open)
	os.Exit(m.Run())
}

var workers = map[string]func(kind string){
	"writer": campaignWorker, "creator": campaignWorker, "folder": campaignWorker, "scraper": campaignWorker, "rewriter": campaignWorker, "expirer": campaignWorker,
}

// campaignWorker is what the processes of the campaign do.
func campaignWorker(kind string) {
	acks, err := mapCampaign(os.Getenv("ACKS"))
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	slot, _ := strconv.Atoi(os.Getenv("SLOT"))
	limit, _ := strconv.Atoi(os.Getenv("LIMIT"))
	b, err := Open(os.Getenv("FILE"), &Options{AnyFileSystem: true, Limit: int64(limit)})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	fail := func(err error) {
		fmt.Println(kind, err)
		os.Exit(3)
	}
	must := func(f *backend.Family, labels string) backend.Words {
		w, err := b.Cells(f, labels)
		if err != nil {
			fail(err)
		}
		return w
	}
	switch kind {
	case "writer":
		for g := range campaignGoroutines {
			go func() {
				mine := &acks[slot].goroutines[g]
				c, h := must(campaignCounter, ""), must(campaignSizes, "")
				hot := &must(campaignStripes, "")[b.Number()%campaignStripes.Stripes*campaignStripes.StripeWords()]
				native, further := campaignBlock(campaignNative, must(campaignNative, "")), campaignBlock(campaignFurther, must(campaignFurther, ""))
				for i := 0; ; i++ {
					c[backend.CounterInt].Add(1)
					hot.Add(1)
					h[backend.HistogramBuckets+i%4].Add(1)
					observeNative(&native, &further, i)
					mine.updates.Add(1)
					if i%4 == 0 {
						n := int(mine.series[0].Load()+uint64(i/4)) % campaignSeries
						must(campaignVec, campaignLabels(slot, g, n))[backend.CounterInt].Add(1)
						mine.series[n].Add(1)
					}
					acks[slot].ready.Store(1)
				}
			}()
		}
	case "creator":
		go func() {
			for i := 0; ; i++ {
				must(campaignVec, fmt.Sprintf(`goroutine="creator",n="%d"`, rand.IntN(3000)))
				if i > 0 && rand.IntN(15) == 0 {
					break
				}
			}
			if rand.IntN(4) > 0 {
				b.takeTurn()
			}
			r := &record{typ: typeSeries, family: b.declared[campaignVec], text: fmt.Sprintf(`goroutine="cut",n="%d"`, rand.IntN(1e6)), words: uint32(campaignVec.Words())}
			r.textLen, r.hash = uint32(len(r.text)), b.hashOf(r.typ, r.family, r.text)
			step := rand.IntN(4)
			if step > 0 {
				if err := b.take(r, b.limit); err != nil {
					fail(err)
				}
			}
			switch step {
			case 2: // half-written
				b.mem.put(r, 1)
				clear(b.mem[r.off+8 : r.off+40])
			case 3:
				b.mem.put(r, 1)
				b.mem.u32(r.off + recNext).Store(b.bucket(r.hash).Load())
			}
			acks[slot].ready.Store(1)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}()
	case "folder":
		w := must(campaignBusy, "")
		w[backend.GaugeValue].Store(0x3ff0000000000000) // 1
		acks[slot].ready.Store(1)
	case "scraper":
		go func() {
			last := make(map[string]uint64)
			for {
				if err := b.Sync(context.Background()); err != nil {
					fail(err)
				}
				for _, g := range b.Walk() {
					for _, s := range g.Series {
						if s.Words == nil || g.Family.Kind != backend.Counter || strings.Contains(s.Labels, "expirer") {
							continue
						}
						key, n := g.Family.Name+s.Labels, s.Words[0].Load()
						if n < last[key] {
							fail(fmt.Errorf("%s went from %d to %d", key, last[key], n))
						}
						last[key] = n
					}
				}
				acks[slot].ready.Store(1)
			}
		}()
	case "expirer":
		go func() {
			for i := 0; ; i++ {
				for n := range 3 {
					must(campaignVec, fmt.Sprintf(`goroutine="expirer",n="%d"`, (i+n)%50))[backend.CounterInt].Add(1)
				}
				if _, err := b.Delete(campaignVec, func(labels string) bool { return strings.HasPrefix(labels, `goroutine="expirer"`) }); err != nil {
					fail(err)
				}
				acks[slot].ready.Store(1)
			}
		}()
	case "rewriter":
		acks[slot].ready.Store(1)
	}
	for {
		time.Sleep(time.Hour) // until it is killed
	}
}

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

// kill kills a process and fails if it had ended by itself in another way.
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
		t.Logf("no 32-bit programs take part on %s", runtime.GOARCH)
		return list
	}
	other := filepath.Join(dir, "test386")
	build := exec.Command("go", "test", "-c", "-o", other, ".")
	build.Env = append(os.Environ(), "GOARCH=386", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := exec.Command(other, "-test.run", "^$").Run(); err != nil {
		t.Logf("this machine cannot run 32-bit programs, none take part: %v", err)
		return list
	}
	return append(list, other)
}

func TestCrashCampaign(t *testing.T) {
	dir := t.TempDir()
	acks, err := mapCampaign(filepath.Join(dir, "acks"))
	if err != nil {
		t.Fatal(err)
	}
	c := &campaign{T: t, dir: dir, path: filepath.Join(dir, "shop"), acks: acks, programs: programs(t, dir)}
	runtime.LockOSThread() // Pdeathsig speaks of the thread that started the child
	defer runtime.UnlockOSThread()
	const limit = 16 << 20
	b := open(t, c.path, &Options{Limit: limit})
	kinds := [campaignSlots]string{"writer", "writer", "creator", "folder", "scraper", "expirer"}
	var running [campaignSlots]*exec.Cmd
	for slot, kind := range kinds {
		running[slot] = c.start(slot, kind, limit)
	}
	died := map[string]int{}
	var took, worked []time.Duration // by the next creator after one that died with the lock
	for n := range *kills {
		slot := n % campaignSlots
		c.wait(slot, running[slot])
		if kinds[slot] == "creator" {
			running[slot].Wait() // it kills itself
			b.rudeTill.Store(0)
			began, had := time.Now(), threadTime(t)
			cells(t, b, campaignVec, fmt.Sprintf(`goroutine="next",n="%d"`, n))
			took, worked = append(took, time.Since(began)), append(worked, threadTime(t)-had)
		} else if d := rand.IntN(2000); d > 0 {
			time.Sleep(time.Duration(d) * time.Microsecond) // the moment is to be random
		}
		c.kill(running[slot])
		died[kinds[slot]]++
		if kinds[slot] == "folder" {
			// Whoever looks finds that it is gone, and nobody else is there.
			if err := b.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, g := range b.Walk() {
				for i := range g.Series {
					if g.Parts != nil {
						for _, p := range g.Parts[i].List() {
							if p.Live() {
								t.Fatalf("a dead process's gauge counts: slot %d", p.Instance.Number)
							}
						}
					}
				}
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
	used := r.Used
	b.Close(t.Context())

	// Now that nobody has the file open, those who open it rewrite it with another limit, and are killed at it.
	for n := range *kills / 10 {
		cmd := c.start(0, "rewriter", limit-(n%2+1)<<20)
		time.Sleep(time.Duration(rand.IntN(12000)) * time.Microsecond)
		c.kill(cmd)
		died["rewriter"]++
		checkFileNow(t, b.Path())
	}
	c.verify(open(t, c.path, &Options{Limit: limit}), died["writer"])
	t.Logf("%v killed, programs %d; %d bytes used, %d of them waste", died, len(c.programs), used, r.Waste)
	for what, list := range map[string][]time.Duration{"took": took, "of which the thread ran for": worked} {
		if slices.Sort(list); len(list) > 0 {
			t.Logf("the next creator after one that died holding the lock %s %v (median), %v (90 %%), %v (most), of %d",
				what, list[len(list)/2], list[len(list)*9/10], list[len(list)-1], len(list))
		}
	}
}

// threadTime returns how long this thread has run.
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
			c.Errorf("%d updates acknowledged, %d %s; possible %d more", acked, n, what, most)
		}
	}
	if lost > 0 || over > most {
		c.Errorf("series: %d lost, %d more; possible %d more", lost, over, most)
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
