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

var scalesTested = []int{1, 2, 4, 8, 16, 35, 64, 128, 256, 347}

// A bound is the float64 closest to 2^(i/m): that to the power of m is 2^i as nearly as floats allow.
func TestBounds(t *testing.T) {
	t.Parallel()
	for _, m := range scalesTested {
		s := ScaleOf(m)
		for i := range m + 1 {
			bound := s.Bound(int32(i), 0)
			// The exact bound is between the middles to the neighbours.
			if i == 0 || i == m {
				if bound != float64(1+i/m) {
					t.Errorf("m %d, bound %d: %v", m, i, bound)
				}
				continue
			}
			half := math.Ldexp(1, -53)
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

// Every value is above the lower bound of its bucket and not above the upper one, whatever it is.
func TestIndex(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, m := range scalesTested {
		s := ScaleOf(m)
		check := func(v float64) {
			t.Helper()
			for shift := range CoarsestShift(m) + 1 {
				i := coarser(s.Index(v), shift)
				if lower, upper := s.Bound(i-1, shift), s.Bound(i, shift); !(v <= upper) || !(v > lower) && v >= 0x1p-1022 { // bounds below are rounded
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

// Buckets side by side have their places; many goroutines take each in once; what has no room is told.
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
		list, _ := b.Append(nil, -1)
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
			t.Error("it does not find what it has")
		}
	}
}

// reference counts values as the coarse buckets would, one by one.
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

// A block that has no room for more becomes coarser, so that whatever is counted is right at its coarseness.
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
		list, zeros := b.Append(nil, -1)
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

// In the end everything is in the zero bucket.
func TestMostCoarse(t *testing.T) {
	t.Parallel()
	for _, m := range scalesTested {
		list := []Bucket{{Index: 1024 * int32(m), Count: 1}, {Index: -1074 * int32(m), Negative: true, Count: 2}, {Count: 4}}
		if united, zeros := Coarsen(list, m, mostCoarse(m)); len(united) != 0 || zeros != 7 || ZeroThreshold(m, mostCoarse(m)) != math.MaxFloat64 {
			t.Errorf("m %d: %v, %d zeros, threshold %v", m, united, zeros, ZeroThreshold(m, mostCoarse(m)))
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
		if list, zeros := b.Append(nil, -1); len(list) != 0 || zeros != 0 || b.Coarse() != 0 {
			t.Error("something counts that is sealed")
		}
		if b.Find(3, false).Load() != Sealed {
			t.Error("a bucket has lost its key")
		}
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	_, b := newBlock(8, 8, 0, 3)
	count := func(oldest uint64) uint64 {
		list, zeros := b.Append(nil, b.Snapshot(oldest))
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
		if got := count(oldest); got != want {
			t.Errorf("since %d: %d, want %d", oldest, got, want)
		}
	}
	b.Advance(12)
	b.Advance(13) // takes the place of 10
	b.Find(5, true).Add(16)
	if got := count(11); got != 24 {
		t.Errorf("since 11: %d", got)
	}
	// One that is stopped in the middle of its copying leaves it to the next.
	b.epochs[14%3].Store(copying)
	b.Advance(14)
	if b.Snapshot(14) != 14%3 || count(14) != 0 {
		t.Errorf("since 14: %d", count(14))
	}
	// The clock goes back: nothing is lost for good.
	b.Advance(5)
	b.Find(5, true).Add(32)
	if got := count(5); got < 32 {
		t.Errorf("after the clock went back: %d", got)
	}
}

// Merging the blocks of several writers gives what one writer's would be.
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
		list, _ := b.Append(nil, -1)
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
		if list, _ := b.Append(nil, b.Snapshot(5)); sum(list) != 200 {
			t.Fatalf("round %d: %d within the window", round, sum(list))
		}
	}
}
