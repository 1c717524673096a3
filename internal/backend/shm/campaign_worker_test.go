//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/sparse"
)

// campaignBlock returns the exponential buckets in a series' words.
func campaignBlock(f *backend.Family, w backend.Words) sparse.Block {
	return sparse.View(f.BucketBlock(w), f.PerDoubling(), f.Shift(), f.Snapshots())
}

// observeNative counts in one of 64 buckets, half of which fit into the first block.
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

// TestMain lets tests run the test binary as another process.
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

// campaignWorker is the main function of the campaign's processes.
func campaignWorker(kind string) {
	acks, err := backendtest.MapFile[campaignAcks](os.Getenv("ACKS"))
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
	go func() {
		for ; ; time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) {
			b.Reclaim(func([]backend.Retired) {})
		}
	}()
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
				if err := b.reserve(r, b.limit); err != nil {
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
				leave := b.Enter()
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
				leave()
				acks[slot].ready.Store(1)
			}
		}()
	case "expirer":
		go func() {
			for i := 0; ; i++ {
				leave := b.Enter()
				for n := range 3 {
					must(campaignVec, fmt.Sprintf(`goroutine="expirer",n="%d"`, (i+n)%50))[backend.CounterInt].Add(1)
				}
				if _, err := b.Delete(campaignVec, func(labels string) bool { return strings.HasPrefix(labels, `goroutine="expirer"`) }); err != nil {
					fail(err)
				}
				leave()
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
