package sparse

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

var scalesTested = []int{1, 2, 4, 8, 16, 35, 64, 128, 256, 347, 512}

// A bound is the float64 closest to 2^(i/m): its m-th power is as close to 2^i as floats allow. In
// a scale of Prometheus, it is near that.
func TestBounds(t *testing.T) {
	t.Parallel()
	for _, m := range scalesTested {
		s := ScaleOf(m)
		for i := range m + 1 {
			bound := s.Bound(int32(i), 0)
			// The exact bound lies between the midpoints to the neighbouring floats.
			if i == 0 || i == m {
				if bound != float64(1+i/m) {
					t.Errorf("m %d, bound %d: %v", m, i, bound)
				}
				continue
			}
			half := math.Ldexp(1, -53)
			if m&(m-1) == 0 && m <= 256 {
				half *= 9
			}
			lower, upper := new(big.Float).SetPrec(60), new(big.Float).SetPrec(60)
			lower.Sub(lower.SetFloat64(bound), big.NewFloat(half))
			upper.Add(upper.SetFloat64(bound), big.NewFloat(half))
			if m <= 64 && (powAbove(lower, m, i) || !powAbove(upper, m, i)) {
				t.Errorf("m %d: %v is not the closest to 2^(%d/%d)", m, bound, i, m)
			}
		}
	}
}

func powAbove(v *big.Float, m, i int) bool {
	p := new(big.Float).SetPrec(uint(64 * m)).SetInt64(1)
	for range m {
		p.Mul(p, v)
	}
	return p.Cmp(new(big.Float).SetMantExp(big.NewFloat(1), i)) > 0
}

// Every value is above the lower bound of its bucket and at most its upper bound.
func TestIndex(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, m := range scalesTested {
		s := ScaleOf(m)
		check := func(v float64) {
			t.Helper()
			for shift := range CoarsestShift(m) + 1 {
				i := coarser(s.Index(v), shift)
				if lower, upper := s.Bound(i-1, shift), s.Bound(i, shift); !(v <= upper) || !(v > lower) && v >= 0x1p-1022 {
					// subnormal bounds are rounded
					t.Fatalf("m %d, shift %d: %v is not in bucket %d, %v to %v", m, shift, v, i, lower, upper)
				}
			}
			if s.Index(v) != s.Index(-v) {
				t.Errorf("%v and its negation differ", v)
			}
		}
		for range 3000 {
			v := math.Float64frombits(rnd.Uint64() &^ (1 << 63))
			if v != 0 && v-v == 0 {
				check(v)
			}
			bound := s.Bound(rnd.Int32N(2000*int32(m))-1000*int32(m), 0)
			check(bound)
			check(math.Nextafter(bound, 0))
			check(math.Nextafter(bound, math.Inf(1)))
		}
		for _, v := range []float64{math.SmallestNonzeroFloat64, 3 * math.SmallestNonzeroFloat64, 0x1p-1022, 0x1p-1023, math.MaxFloat64, 1, 2, .5} {
			check(v)
		}
		if i, want := s.Index(math.MaxFloat64), int32(1024*m); i != want {
			t.Errorf("m %d: the largest has index %d, want %d", m, i, want)
		}
		if i, want := s.Index(math.SmallestNonzeroFloat64), int32(-1074*m); i != want {
			t.Errorf("m %d: the smallest has index %d, want %d", m, i, want)
		}
	}
}

func TestMiddle(t *testing.T) {
	t.Parallel()
	for _, m := range scalesTested {
		s := ScaleOf(m)
		g := math.Exp2(1 / float64(m))
		want := (g - 1) / (g + 1)
		for _, i := range []int32{-int32(m) * 1000, -7, 0, 1, 35, int32(m) * 1023} {
			mid := s.Middle(i, 0)
			for _, v := range []float64{s.Bound(i-1, 0), s.Bound(i, 0)} {
				if e := math.Abs(mid-v) / v; e > want*(1+1e-9)+1e-15 {
					t.Errorf("m %d, bucket %d: %v is %v from %v, more than %v", m, i, mid, e, v, want)
				}
			}
		}
		if v := s.Middle(1024*int32(m), 0); math.IsInf(v, 0) {
			t.Errorf("m %d: the last bucket's middle is %v", m, v)
		}
	}
}

func newBlock(n, m int, shift uint, snapshots int) ([]atomic.Uint64, Block) {
	w := make([]atomic.Uint64, Words(n, snapshots))
	return w, View(w, m, shift, snapshots)
}

func sum(list []Bucket) (n uint64) {
	for _, b := range list {
		n += b.Count
	}
	return n
}

// Neighbouring buckets do not collide, concurrent goroutines add each bucket once, and a full block
// returns nil.
func TestFind(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 32, 128} {
		_, b := newBlock(n, 8, 0, 0)
		var wait sync.WaitGroup
		for g := range 4 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				rnd := rand.New(rand.NewPCG(uint64(g), 1))
				for range 4000 {
					b.Find(rnd.Int32N(int32(n))-int32(n/2), false).Add(1)
				}
			}()
		}
		wait.Wait()
		list, _ := b.Append(nil)
		seen := map[int32]bool{}
		for _, x := range list {
			if seen[x.Index] || x.Negative || x.Index < -int32(n/2) || x.Index >= int32(n/2) {
				t.Errorf("bucket %+v", x)
			}
			seen[x.Index] = true
		}
		if len(list) != n || sum(list) != 16000 {
			t.Errorf("%d buckets with %d", len(list), sum(list))
		}
		if b.Find(1000, false) != nil || b.Find(0, true) != nil {
			t.Error("there was room for another")
		}
		if b.Find(0, false) == nil {
			t.Error("an existing bucket is not found")
		}
	}
}

// reference counts values one by one in coarse buckets.
func reference(values []float64, m int, coarse uint64) (map[string]uint64, uint64) {
	want, zeros := map[string]uint64{}, uint64(0)
	shift := uint(min(coarse, uint64(CoarsestShift(m))))
	for _, v := range values {
		if math.Abs(v) <= ZeroThreshold(m, coarse) {
			zeros++
		} else {
			want[fmt.Sprint(v < 0, coarser(ScaleOf(m).Index(v), shift))]++
		}
	}
	return want, zeros
}

// A full block becomes coarser, and its counts are right at its coarseness.
func TestFindAnyhow(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 300 {
		m := scalesTested[round%len(scalesTested)]
		_, b := newBlock(4, m, 0, 0)
		var values []float64
		for range 200 {
			v := rnd.NormFloat64() * math.Exp2(float64(rnd.IntN(1+round*3))-float64(round))
			if v == 0 || v-v != 0 {
				continue
			}
			values = append(values, v)
			w, coarse := b.FindAnyhow(ScaleOf(m).Index(v), v < 0)
			w.Add(1)
			b.KeepCoarse(coarse)
		}
		list, zeros := b.Append(nil)
		united, more := Coarsen(list, m, b.Coarse())
		want, wantZeros := reference(values, m, b.Coarse())
		if zeros+more != wantZeros || len(united) != len(want) {
			t.Fatalf("round %d, m %d, coarseness %d: %d zeros, want %d, buckets %v, want %v", round, m, b.Coarse(), zeros+more, wantZeros, united, want)
		}
		for _, x := range united {
			if want[fmt.Sprint(x.Negative, x.Index)] != x.Count {
				t.Fatalf("round %d: bucket %v, want %v", round, x, want)
			}
		}
	}
}

// At the greatest coarseness everything is in the zero bucket.
func TestMostCoarse(t *testing.T) {
	t.Parallel()
	for _, m := range scalesTested {
		list := []Bucket{{Index: 1024 * int32(m), Count: 1}, {Index: -1074 * int32(m), Negative: true, Count: 2}, {Count: 4}}
		if united, zeros := Coarsen(list, m, mostCoarse(m)); len(united) != 0 || zeros != 7 || ZeroThreshold(m, mostCoarse(m)) != math.MaxFloat64 {
			t.Errorf("m %d: %v, %d zeros, threshold %v", m, united, zeros, ZeroThreshold(m, mostCoarse(m)))
		}
	}
}

// Whatever another process has written to a block, reading terminates and returns valid buckets.
func TestWildWords(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(8, 9))
	for range 3000 {
		m := scalesTested[rnd.IntN(len(scalesTested))]
		shift := uint(rnd.IntN(int(CoarsestShift(m)) + 1))
		w, b := newBlock(16, m, shift, 2)
		for i := range w {
			w[i].Store(rnd.Uint64() >> rnd.IntN(64))
		}
		b.AppendSince(nil, 5, 6)
		merged := Merge(make([]atomic.Uint64, Words(16, 2)), w, m, shift, 2)
		for _, b := range []Block{b, View(merged, m, shift, 2)} {
			list, _ := b.Append(nil)
			coarse := b.Coarse()
			for ; len(list) > 0; coarse++ {
				if coarse > mostCoarse(m) {
					t.Fatalf("m %d: %v is not merged into zero at any coarseness", m, list)
				}
				for _, x := range list {
					if bound := ScaleOf(m).Bound(x.Index, uint(x.Shift)); !(bound > 0) {
						t.Fatalf("m %d: bucket %v ends at %v", m, x, bound)
					}
				}
				list, _ = Coarsen(list, m, coarse)
			}
		}
	}
}

func TestSealable(t *testing.T) {
	t.Parallel()
	for _, s := range []int{0, 5} {
		w, b := newBlock(8, 8, 0, s)
		if len(b.counts) != 8 || len(b.keys) != 4 || len(b.snaps) != 8*s {
			t.Fatalf("%d counts, %d keys", len(b.counts), len(b.keys))
		}
		b.Find(3, false).Add(5)
		for i := range w {
			if Sealable(i, len(w), s) {
				w[i].Store(Sealed)
			}
		}
		if list, zeros := b.Append(nil); len(list) != 0 || zeros != 0 || b.Coarse() != 0 {
			t.Error("a sealed word counts")
		}
		if b.Find(3, false).Load() != Sealed {
			t.Error("a bucket has lost its key")
		}
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	_, b := newBlock(8, 8, 0, 3)
	count := func(oldest, now uint64) uint64 {
		list, zeros := b.AppendSince(nil, oldest, now)
		return sum(list) + zeros
	}
	b.Find(1, false).Add(1) // before the first snapshot: it belongs to the first epoch
	b.Advance(10)
	b.Find(2, false).Add(2)
	b.Zero().Add(4)
	b.Advance(11)
	b.Find(1, false).Add(8)
	b.Advance(11) // there is one
	for oldest, want := range map[uint64]uint64{9: 15, 10: 15, 11: 8} {
		if got := count(oldest, 11); got != want {
			t.Errorf("since %d: %d, want %d", oldest, got, want)
		}
	}
	b.Advance(12)
	b.Advance(13) // takes the place of 10
	b.Find(5, true).Add(16)
	if got := count(11, 13); got != 24 {
		t.Errorf("since 11: %d", got)
	}
	// If a process is stopped while it copies, the next one completes the snapshot.
	for _, mark := range []uint64{copying, copyingFirst} {
		b.epochs[14%3].Store(mark)
		if n := count(14, 14); n != 0 || b.epoch(14%3) != 14 {
			t.Errorf("since 14: %d", n)
		}
	}
	// Nobody took the snapshot of 15, so what was counted before that of 16 may be older.
	b.Find(5, true).Add(64)
	if got := count(15, 16); got != 0 {
		t.Errorf("since 15, of which there is no snapshot: %d", got)
	}
	// After the clock has gone back, counting recovers.
	b.Advance(5)
	b.Find(5, true).Add(32)
	if got := count(5, 5); got < 32 {
		t.Errorf("after the clock went back: %d", got)
	}
}

// Each bucket counts once per epoch, so a window must show each bucket once per epoch, even while
// snapshots are replaced: no bucket is read with the snapshot of another epoch.
func TestWindowWhileItMoves(t *testing.T) {
	t.Parallel()
	const slots, buckets = 8, 16
	_, b := newBlock(2*buckets, 8, 0, slots)
	var now atomic.Uint64
	step := func() {
		e := now.Load() + 1
		b.Advance(e)
		for i := range int32(buckets) {
			b.Find(i, false).Add(1)
		}
		now.Store(e)
	}
	for range slots {
		step()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 30_000 {
			step()
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		before := now.Load()
		list, _ := b.AppendSince(nil, before-slots+1, before)
		after, least, most := now.Load(), ^uint64(0), uint64(0)
		for _, x := range list {
			least, most = min(least, x.Count), max(most, x.Count)
		}
		// Some buckets may include the next epoch.
		if len(list) > 0 && (most > after+1-(before-slots) || most-least > after-before+1) {
			t.Fatalf("since epoch %d, and it is %d: %v", before-slots+1, after, list)
		}
	}
	for range slots { // the reader may have been so late that it replaced a newer snapshot
		step()
	}
	if list, _ := b.AppendSince(nil, now.Load()-slots+1, now.Load()); sum(list) != slots*buckets {
		t.Errorf("%d counted in %d epochs", sum(list), slots)
	}
}

// A caller that is late by less than a window does not replace a newer snapshot.
func TestLateAdvance(t *testing.T) {
	t.Parallel()
	_, b := newBlock(8, 8, 0, 3)
	for e := range uint64(6) {
		b.Advance(e + 1)
		b.Find(1, false).Add(1)
	}
	b.Advance(3)
	if e := b.epoch(0); e != 6 { // 3 and 6 have the same place
		t.Errorf("in place of epoch 6 there is %d", e)
	}
}

// A process that was stopped while it took a snapshot does not overwrite a newer one when it
// continues.
func TestStaleCopy(t *testing.T) {
	t.Parallel()
	_, b := newBlock(8, 8, 0, 3)
	b.Zero().Add(5)
	b.Advance(7)
	b.Zero().Add(5)
	if b.copy(&b.epochs[7%3], copying, b.zero, &b.zeroSnaps[7%3]) || b.zeroSnaps[7%3].Load() != 0 {
		t.Error("a snapshot that is complete was changed")
	}
}

// Counts that add up to more than a word holds stay below a seal.
func TestCoarsenFull(t *testing.T) {
	t.Parallel()
	const m = 1
	for _, coarse := range []uint64{2, mostCoarse(m)} {
		var list []Bucket
		for i := range int32(4) { // whose total is a multiple of 2^64
			list = append(list, Bucket{Index: i + 1, Count: Sealed >> 1})
		}
		united, zeros := Coarsen(list, m, coarse)
		total := zeros
		for _, b := range united {
			total = Plus(total, b.Count)
		}
		if total != Sealed-1 {
			t.Errorf("coarseness %d: %v and %d zeros", coarse, united, zeros)
		}
	}
}
