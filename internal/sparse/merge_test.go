package sparse

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// Blocks can be merged while a snapshot is being taken, and before a bucket's key is stored.
func TestMergeOfUnfinished(t *testing.T) {
	t.Parallel()
	w, begins := newBlock(8, 8, 0, 3)
	oldWords, old := newBlock(8, 8, 0, 3)
	old.Advance(5)
	old.Find(1, false).Add(1000)
	old.Advance(9)
	begins.Find(2, false).Add(3)
	begins.epochs[10%3].Store(copyingFirst) // its first snapshot is being taken
	for _, order := range [][2][]atomic.Uint64{{w, oldWords}, {oldWords, w}} {
		to := make([]atomic.Uint64, len(w))
		for i := range to { // as a store's reader has it
			to[i].Store(order[0][i].Load())
		}
		merged := View(Merge(to, order[1], 8, 0, 3), 8, 0, 3)
		if list, _ := merged.AppendSince(nil, 8, 10); sum(list) != 3 {
			t.Errorf("%d within the window of one that has begun and one that was there: %v", sum(list), list)
		}
	}
	keyless, _ := newBlock(8, 8, 0, 0)
	b := View(keyless, 8, 0, 0)
	b.counts[0].Store(1)
	other, o := newBlock(8, 8, 0, 0)
	o.Find(0, false).Add(10)
	merged := View(Merge(Merge(make([]atomic.Uint64, len(other)), keyless, 8, 0, 0), other, 8, 0, 0), 8, 0, 0)
	if list, _ := merged.Append(nil); sum(list) != 10 || len(list) != 1 {
		t.Errorf("a count without a key is in another bucket: %v", list)
	}
	Subtract(keyless, make([]atomic.Uint64, Words(16, 0)), 8, 0, 0) // no former state of it
}

// Take returns counts of a single epoch, even while the window moves.
func TestTakeWhileItMoves(t *testing.T) {
	t.Parallel()
	for round := range 3000 {
		const slots, buckets = 3, 64
		_, b := newBlock(2*buckets, 8, 0, slots)
		for e := range uint64(slots) {
			b.Advance(e + 1)
			for i := range int32(buckets) {
				b.Find(i, false).Add(1)
			}
		}
		var begun atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			for begun.Store(true); round%100 > 0; round-- {
				// begins at another moment in each round
				b.Coarse()
			}
			b.Advance(slots + 1)
		}()
		for !begun.Load() {
		}
		list, _ := b.Take(1)
		<-done
		if len(list) != buckets {
			t.Fatalf("%d of %d buckets", len(list), buckets)
		}
		for _, x := range list {
			if x.Count != list[0].Count || x.Count < slots-1 {
				t.Fatalf("buckets of different epochs: %v", list)
			}
		}
	}
}

// The merged windows of several writers, some of which pause, equal the window of a single writer
// at every moment, in any order of merging.
func TestMergedWindows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		const m = 8
		slots := 1 + rnd.IntN(5)
		type writer struct {
			w     []atomic.Uint64
			b     Block
			until uint64 // end of its pause
			dead  bool
		}
		var writers []*writer
		type observation struct {
			epoch uint64
			value float64
		}
		var all []observation
		for now := uint64(5); now < 40; now++ {
			if len(writers) < 4 && rnd.IntN(4) == 0 || len(writers) == 0 {
				w, b := newBlock(32, m, 0, slots)
				writers = append(writers, &writer{w: w, b: b})
			}
			for _, x := range writers {
				switch {
				case x.dead || x.until > now:
					continue
				case rnd.IntN(12) == 0: // for longer than an epoch
					x.until = now + 1 + rnd.Uint64N(8)
					continue
				case rnd.IntN(30) == 0:
					x.dead = true
					continue
				}
				x.b.Advance(now)
				for range rnd.IntN(3) * rnd.IntN(20) {
					v := float64(rnd.IntN(6))
					all = append(all, observation{now, v})
					if v == 0 {
						x.b.Zero().Add(1)
					} else {
						x.b.Find(ScaleOf(m).Index(v), false).Add(1)
					}
				}
			}
			merged := make([]atomic.Uint64, Words(32, slots))
			for _, i := range rnd.Perm(len(writers)) {
				merged = Merge(merged, writers[i].w, m, 0, slots)
			}
			if rnd.IntN(4) == 0 { // merge what dead writers have left for good
				base := make([]atomic.Uint64, Words(32, slots))
				kept := writers[:0]
				for _, x := range writers {
					if x.dead {
						base = Merge(base, x.w, m, 0, slots)
					} else {
						kept = append(kept, x)
					}
				}
				writers = append(kept, &writer{w: base, b: View(base, m, 0, slots), dead: true})
			}
			oldest := max(now, uint64(slots)) - uint64(slots) + 1
			var values []float64
			zeros := uint64(0)
			for _, o := range all {
				if o.epoch >= oldest && o.value == 0 {
					zeros++
				} else if o.epoch >= oldest {
					values = append(values, o.value)
				}
			}
			view := View(merged, m, 0, slots)
			list, gotZeros := view.AppendSince(nil, oldest, now)
			want, _ := reference(values, m, 0)
			got := map[string]uint64{}
			for _, x := range list {
				got[fmt.Sprint(x.Negative, x.Index)] += x.Count
			}
			if !maps.Equal(got, want) || gotZeros != zeros {
				t.Fatalf("seed %d, epoch %d, %d slots: %v and %d zeros in the window, want %v and %d", seed, now, slots, got, gotZeros, want, zeros)
			}
		}
	}
}

// Merging the blocks of several writers gives the same as a single writer's block.
func TestMerge(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	for round := range 50 {
		const m = 8
		to := make([]atomic.Uint64, Words(16, 3))
		var values []float64
		for range 4 {
			w, b := newBlock(64, m, 1, 3)
			b.Advance(uint64(5 + rnd.IntN(2)))
			for range 50 {
				v := math.Exp2(rnd.Float64()*float64(round%6) - 1)
				if rnd.IntN(10) == 0 {
					v = -v
				}
				values = append(values, v)
				b.Find(ScaleOf(m).Index(v), v < 0).Add(1)
			}
			to = Merge(to, w, m, 1, 3)
		}
		b := View(to, m, 1, 3)
		list, _ := b.Append(nil)
		united, _ := Coarsen(list, m, 1)
		want, _ := reference(values, m, 1)
		for _, x := range united {
			if want[fmt.Sprint(x.Negative, x.Index)] != x.Count {
				t.Fatalf("round %d: bucket %v, want %v", round, x, want)
			}
		}
		if len(united) != len(want) || sum(united) != 200 {
			t.Fatalf("round %d: %d buckets with %d", round, len(united), sum(united))
		}
		if list, _ := b.AppendSince(nil, 5, 6); sum(list) != 200 {
			t.Fatalf("round %d: %d within the window", round, sum(list))
		}
	}
}
