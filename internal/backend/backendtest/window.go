package backendtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// windowed is a summary with quantiles whose first block is soon full.
var windowed = &backend.Family{
	Name: "window_seconds", Help: "W.", Kind: backend.Summary, Labels: []string{"x"},
	Sketch: &backend.Sketch{Quantiles: []float64{0.5}, PerDoubling: 20, Slots: 3, MaxAge: 60e9},
}

// testWindows lets instances count over many epochs, taking snapshots from time to time as a
// registry does. Instances start, pause for longer than an epoch, leave, and are killed.
func testWindows(t *testing.T, o *Backends) {
	const epochs, buckets = 60, 40
	place := o.Fresh(t)
	rnd := rand.New(rand.NewPCG(5, 1))
	further := windowed.With(backend.Block{Role: backend.BucketRole, Size: 64})
	type process struct {
		*peer
		until int // end of its pause
	}
	var live []*process
	join := func(epoch int) {
		p := &process{peer: o.start(t, place, fmt.Sprint("p", epoch), o.Processes && rnd.IntN(2) == 0)}
		p.must(request{Do: "epoch", Count: epoch})
		live = append(live, p)
	}
	counted := map[string][]map[int]uint64{} // by label text and epoch
	for _, labels := range []string{`x="a"`, `x="b"`} {
		counted[labels] = make([]map[int]uint64, epochs)
	}
	for now := 1; now < epochs; now++ {
		if len(live) == 0 || !o.Alone && len(live) < 4 && rnd.IntN(8) == 0 {
			join(now)
		}
		for i := len(live) - 1; i >= 0; i-- {
			p := live[i]
			switch n := rnd.IntN(40); {
			case p.until > now:
				continue
			case n < 3:
				p.until = now + 1 + rnd.IntN(6)
				continue
			case n < 5 && len(live) > 1:
				if p.here == nil || p.die != nil && n == 3 {
					p.kill()
				} else {
					p.end()
				}
				live = slices.Delete(live, i, i+1)
				continue
			}
			p.must(request{Do: "epoch", Count: now})
			for labels, list := range counted {
				if list[now] == nil {
					list[now] = make(map[int]uint64)
				}
				for range rnd.IntN(4) {
					at, n := 1+rnd.IntN(buckets), 1+rnd.Uint64N(9)
					list[now][at] += n
					f := windowed
					if at > buckets/2 {
						f = further
					}
					p.must(about("update", f, labels, op{Do: opBucket, At: at, N: n}))
				}
			}
			p.must(request{Do: "flush"})
		}
		for _, p := range live {
			if p.until > now || rnd.IntN(3) > 0 {
				continue
			}
			p.must(request{Do: "sync"})
			for labels, list := range counted {
				want := make(map[int]uint64)
				for _, slot := range list[max(0, now-windowed.Snapshots()+1) : now+1] {
					for at, n := range slot {
						want[at] += n
					}
				}
				q := about("window", windowed, labels)
				q.Count = now
				if got := p.must(q).Lines; !slices.Equal(got, windowLines(want)) {
					t.Fatalf("epoch %d, %s, %s: %v was counted within the window of %d epochs, got %v",
						now, p.name, labels, windowLines(want), windowed.Snapshots(), got)
				}
			}
		}
	}
}

func windowLines(counts map[int]uint64) (lines []string) {
	for _, at := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%d:%d", at, counts[at]))
	}
	return lines
}

// begin takes the snapshots of an epoch in all words of the instance, including those it gets
// later.
func (i *instance) begin(epoch int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.epoch = uint64(epoch)
	for f, all := range i.words {
		for _, w := range all {
			i.advance(f, w)
		}
	}
}

func (i *instance) advance(f *backend.Family, w backend.Words) {
	if i.epoch > 0 && f.Snapshots() > 0 {
		b := viewOf(f, w)
		b.Advance(i.epoch)
	}
}

// window returns the counts of a series within the window that ends in an epoch, as Walk shows
// them.
func (i *instance) window(f *backend.Family, labels string, now int) []string {
	counts := make(map[int]uint64)
	for _, g := range i.b.Walk() {
		if g.Family.Schema() != f.Schema() && !g.Family.Aids(f) || g.Family.BucketBlock(make(backend.Words, g.Family.Words())) == nil {
			continue
		}
		at, ok := slices.BinarySearchFunc(g.Series, labels, func(s *backend.Series, labels string) int { return strings.Compare(s.Labels, labels) })
		if !ok {
			continue
		}
		b := viewOf(g.Family, g.Series[at].Words)
		list, _ := b.AppendSince(nil, uint64(max(1, now-f.Snapshots()+1)), uint64(now))
		for _, bucket := range list {
			counts[int(bucket.Index)] += bucket.Count
		}
	}
	return windowLines(counts)
}

func viewOf(f *backend.Family, w backend.Words) sparse.Block {
	return sparse.View(f.BucketBlock(w), f.PerDoubling(), f.Shift(), f.Snapshots())
}
