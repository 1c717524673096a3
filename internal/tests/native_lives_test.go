package tests_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
)

// If the backend has no room for further blocks, buckets become coarser, and the page has all
// observations.
func TestNativeWithoutRoom(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New()}
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	h := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}, "l").With("a")
	b.set(fmt.Errorf("%w: for the test", backend.ErrFull))
	var values []float64
	observe := func(n int, spread float64) {
		for i := range n {
			v := math.Exp2(float64(i)*spread - 20)
			values = append(values, v, -v)
			h.Observe(v)
			h.Observe(-v)
		}
	}
	observe(60, .5)
	checkNative(t, distributions(r, "h")[`l="a"`], values, 160)
	observe(100, 8)
	checkNative(t, distributions(r, "h")[`l="a"`], values, 160)
	b.set(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	observe(60, .5)
	checkNative(t, distributions(r, "h")[`l="a"`], values, 160)
}

// Series that the backend had no room for move with their blocks once there is room.
func TestNativeInPrivateWords(t *testing.T) {
	t.Parallel()
	b := &faulty{Backend: heap.New(), err: fmt.Errorf("%w: for the test", backend.ErrFull)}
	r, _ := newRegistry(t, nil)
	r.BindBackend(t.Context(), b)
	v := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}, "l")
	var values []float64
	observe := func() {
		for i := range 300 {
			values = append(values, float64(i))
			v.With("a").Observe(float64(i))
		}
	}
	observe()
	if n := v.With("a").Count(); n != 300 {
		t.Errorf("count %d", n)
	}
	b.set(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	observe()
	checkNative(t, distributions(r, "h")[`l="a"`], values, 160)
}

// A deleted series starts over, including its blocks, whichever process deletes it. So does an
// expired one.
func TestNativeLives(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	var vecs []*gotheus.Vec[gotheus.Histogram]
	var rs []*gotheus.Registry
	for range 2 {
		r, _ := newRegistry(t, nil)
		bind(t, r, url)
		rs = append(rs, r)
		vecs = append(vecs, r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{MaxBuckets: 100}}, "l"))
	}
	kept := vecs[0].With("a")
	for life := range 4 {
		var values []float64
		for i := range 200 {
			v := math.Exp2(float64(i)/float64(1+life) - 20)
			values = append(values, v, v)
			kept.Observe(v)
			vecs[1].With("a").Observe(v)
		}
		checkNative(t, distributions(rs[life%2], "h")[`l="a"`], values, 100)
		if n := vecs[(life+1)%2].DeleteAll(); n != 1 {
			t.Errorf("deleted %d", n)
		}
		for _, r := range rs {
			if p := page(t, r); strings.Contains(p, `l="a"`) {
				t.Error(p)
			}
		}
	}
}

// In shared memory, Count has what other processes have counted in blocks of their own, also before
// this process makes a page.
func TestNativeCountOfOthers(t *testing.T) {
	t.Parallel()
	url := shmURL(t)
	var hs []*gotheus.Histogram
	for range 2 {
		r, _ := newRegistry(t, nil)
		bind(t, r, url)
		hs = append(hs, r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}))
	}
	sum := 0.0
	for i := range 300 {
		v := math.Exp2(float64(i%100) - 20)
		hs[i%2*(i/100)%2].Observe(v)
		sum += v
		for j, h := range hs {
			if h.Count() != uint64(i+1) || h.Sum() != sum {
				t.Fatalf("process %d: count %d, sum %v, want %d and %v", j, h.Count(), h.Sum(), i+1, sum)
			}
		}
	}
}

// Over a store, Count is the number of observations of this process alone, even after pages have
// merged it with those of others, and even if it has further blocks.
func TestNativeCountOverStore(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]string{"one store": newFleet(t), "three": newShardedFleet(t)} {
		var registries []*gotheus.Registry
		var hs []*gotheus.Histogram
		for i := range 2 {
			r, _ := newRegistry(t, nil)
			bind(t, r, "fleet:"+joinFleet(strings.TrimPrefix(where, "fleet:")).name)
			h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)})
			for j := range 60 + i {
				h.Observe(math.Pow(1.1, float64(j)))
			}
			registries, hs = append(registries, r), append(hs, h)
		}
		for range 2 {
			for _, r := range registries {
				if err := r.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, r := range registries {
				pageHas(t, r, "h_count 121")
			}
			sum := 0.0
			for i, h := range hs {
				if n := h.Count(); n != uint64(60+i) {
					t.Errorf("%s: %d observed by process %d, of %d", name, n, i, 60+i)
				}
				sum += h.Sum()
			}
			if v, ok := distributions(registries[0], "h")[""]; !ok || math.Abs(v.Sum-sum) > sum/1e9 {
				t.Errorf("%s: sum %v, on the page %v", name, sum, v.Sum)
			}
		}
	}
}

// A series that another process has deleted comes back with the next observation, also with one
// whose bucket has no room in the block that the process knows.
func TestNativeComesBack(t *testing.T) {
	t.Parallel()
	shared := heap.New()
	var h [2]*gotheus.Histogram
	var v [2]*gotheus.HistogramVec
	var r [2]*gotheus.Registry
	for i := range h {
		r[i], _ = newRegistry(t, nil)
		r[i].BindBackend(t.Context(), shared)
		v[i] = r[i].NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)}, "l")
		h[i] = v[i].With("a")
	}
	for i := range backend.FirstBlock {
		h[0].Observe(math.Exp2(float64(i)))
	}
	v[1].Delete("a")
	values := []float64{.5, .25}
	for _, value := range values {
		h[0].Observe(value)
	}
	checkNative(t, distributions(r[0], "h")[`l="a"`], values, 160)
	if n, sum := h[0].Count(), h[0].Sum(); n != 2 || sum != .75 {
		t.Errorf("count %d, sum %v", n, sum)
	}
}
