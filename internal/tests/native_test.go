package tests_test

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// exponentialBucket is the reference: the least i with |v| <= 2^(i * 2^-schema), found by a
// logarithm and a comparison with the adjacent bounds.
func exponentialBucket(v float64, schema int32) int32 {
	perBucket := math.Exp2(-float64(schema))
	i := int32(math.Ceil(math.Log2(math.Abs(v)) / perBucket))
	for math.Exp2(float64(i)*perBucket) < math.Abs(v) {
		i++
	}
	for math.Exp2(float64(i-1)*perBucket) >= math.Abs(v) {
		i--
	}
	return i
}

// checkNative compares exponential buckets with those of one process that observes all values one
// by one.
func checkNative(t *testing.T, d expo.Distribution, values []float64, limit int) {
	t.Helper()
	n := d.Native
	if n == nil {
		t.Fatal("there are no exponential buckets")
	}
	want := map[bool]map[int32]uint64{false: {}, true: {}}
	zeros := uint64(0)
	for _, v := range values {
		if math.Abs(v) <= n.ZeroThreshold {
			zeros++
		} else {
			want[v < 0][exponentialBucket(v, n.Schema)]++
		}
	}
	total := n.ZeroCount
	for negative, list := range map[bool][]expo.NativeBucket{false: n.Positive, true: n.Negative} {
		got := map[int32]uint64{}
		for i, b := range list {
			if i > 0 && list[i-1].Index >= b.Index || b.Count == 0 {
				t.Errorf("buckets are not ascending, or empty: %v", list)
			}
			got[b.Index] = b.Count
			total += b.Count
		}
		if !maps.Equal(got, want[negative]) {
			t.Errorf("schema %d, negative %v: got %v, want %v", n.Schema, negative, got, want[negative])
		}
	}
	if zeros != n.ZeroCount || d.Count != uint64(len(values)) || total != d.Count {
		t.Errorf("%d zeros, count %d, sum of buckets %d; want %d, %d", n.ZeroCount, d.Count, total, zeros, len(values))
	}
	if len(n.Positive)+len(n.Negative) > limit {
		t.Errorf("%d buckets, more than %d", len(n.Positive)+len(n.Negative), limit)
	}
	for _, c := range d.Buckets {
		if c > d.Count {
			t.Errorf("buckets %v, count %d", d.Buckets, d.Count)
		}
	}
}

// Values of any distribution that several registries on one file observe add up to what one
// registry would have.
func TestNativeAgainstReference(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(7, 8))
	for round := range 26 {
		o := &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: gotheus.SchemaFactor(round%13 - 4), MaxBuckets: []int{1, 7, 20, 160, 1000}[round%5]}}
		if round%2 == 0 {
			o.Buckets = []float64{-1, 0, 1, 10}
		}
		spread := []float64{.1, 1, 10, 100, 700}[rnd.IntN(5)]
		// 32-bit machines have no addresses for more.
		url := "shm://" + filepath.Join(t.TempDir(), "test") + "?fs=any&limit=1MiB"
		var values []float64
		var hs []*gotheus.Histogram
		var rs []*gotheus.Registry
		for range 3 {
			r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
			hs = append(hs, r.NewHistogram("h", "H.", o))
			rs = append(rs, r)
		}
		observe := func(n int) {
			for range n {
				v := math.Exp2(rnd.NormFloat64() * spread)
				switch rnd.IntN(8) {
				case 0:
					v = -v
				case 1:
					v = 0
				}
				if v-v != 0 {
					continue
				}
				h := hs[rnd.IntN(len(hs))]
				if rnd.IntN(4) == 0 {
					h.ObserveN(v/3, 3)
					values = append(values, v/3, v/3, v/3)
				} else {
					h.Observe(v)
					values = append(values, v)
				}
			}
		}
		observe(200) // in the heap
		for _, r := range rs {
			bind(t, r, url)
		}
		observe(300)
		for i, r := range rs {
			d := distributions(r, "h")[""]
			checkNative(t, d, values, o.Native.MaxBuckets)
			if hs[i].Count() != d.Count {
				t.Errorf("Count returns %d, the page has %d", hs[i].Count(), d.Count)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d, schema %d, limit %d, spread %v", round, round%13-4, o.Native.MaxBuckets, spread)
		}
	}
}

// Bounds belong to the bucket below them.
func TestNativeBounds(t *testing.T) {
	t.Parallel()
	for schema := -4; schema <= 8; schema++ {
		r, _ := newRegistry(t, nil)
		h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: gotheus.SchemaFactor(schema)}})
		h.Observe(1)
		h.Observe(math.Nextafter(1, 2))
		h.Observe(0x1p-128)
		h.Observe(-1)
		d := distributions(r, "h")[""]
		if n := d.Native; n.Schema != int32(schema) || n.ZeroCount != 1 || !slices.Equal(n.Positive, []expo.NativeBucket{{Index: 0, Count: 1}, {Index: 1, Count: 1}}) ||
			!slices.Equal(n.Negative, []expo.NativeBucket{{Index: 0, Count: 1}}) || n.ZeroThreshold != 0x1p-128 || d.Buckets == nil && len(d.Buckets) > 0 {
			t.Errorf("schema %d: %+v", schema, n)
		}
	}
}

// A histogram has the default resolution while few buckets are in use. The text format does not
// show them.
func TestNativeOnTextPages(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	alone := r.NewHistogram("alone", "A.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)})
	both := r.NewHistogram("both", "B.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions), Buckets: []float64{1, 2}})
	for i := range 3 {
		alone.Observe(float64(i))
		both.Observe(float64(i) + .5)
	}
	if got, want := page(t, r), `# HELP alone A.
# TYPE alone histogram
alone_bucket{le="+Inf"} 3
alone_sum 3
alone_count 3
# HELP both B.
# TYPE both histogram
both_bucket{le="1"} 1
both_bucket{le="2"} 2
both_bucket{le="+Inf"} 3
both_sum 4.5
both_count 3
`; got != want {
		t.Errorf("got\n%s", got)
	}
	if n := distributions(r, "alone")[""].Native; n.Schema != 3 {
		t.Errorf("schema %d", n.Schema)
	}
}

func TestNativeRejects(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, nil)
	for want, o := range map[string]gotheus.HistogramOptions{
		"Native.Factor 1 must be above 1":    {Native: &gotheus.NativeOptions{Factor: 1}},
		"Native.Factor NaN must be above 1":  {Native: &gotheus.NativeOptions{Factor: nan}},
		"Native.MaxBuckets -1 must be from":  {Native: &gotheus.NativeOptions{MaxBuckets: -1}},
		"zero threshold +Inf must be finite": {Native: &gotheus.NativeOptions{ZeroThreshold: math.Inf(1)}},
	} {
		_, err := gotheus.TryNew[gotheus.Histogram](r, "h_seconds", "H.", &o)
		if !errors.Is(err, gotheus.ErrInvalid) || !strings.Contains(err.Error(), "h_seconds") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)})
	_, err := gotheus.TryNew[gotheus.Histogram](r, "h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 2}})
	if !errors.Is(err, gotheus.ErrConflict) || !strings.Contains(err.Error(), "it already has exponential buckets") {
		t.Errorf("got %v", err)
	}
	// Many large observations do not make the count wrap around.
	h := r.NewHistogram("many", "M.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)})
	for i := range 600 {
		h.ObserveN(float64(i), 1<<53-1)
	}
	if n := h.Count(); n > 1<<62 || n < 1<<61 {
		t.Errorf("count %d", n)
	}
}

// Every page is valid while many goroutines observe, bind and delete.
func TestNativePagesUnderLoad(t *testing.T) {
	t.Parallel()
	r, _ := newRegistry(t, &gotheus.RegistryOptions{NoSelfMetrics: true})
	v := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 1.01, MaxBuckets: 50}, Buckets: []float64{.5, 1}}, "l")
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for g := range 3 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			rnd := rand.New(rand.NewPCG(uint64(g), 9))
			for {
				select {
				case <-stop:
					return
				default:
					v.With("a").Observe(math.Exp2(rnd.NormFloat64() * 20))
				}
			}
		}()
	}
	url := shmURL(t)
	for i := range 60 {
		for labels, d := range distributions(r, "h") {
			total := d.Native.ZeroCount
			for _, b := range append(d.Native.Positive, d.Native.Negative...) {
				total += b.Count
			}
			if total != d.Count || len(d.Native.Positive) > 50 || !slices.IsSorted(d.Buckets) || d.Buckets[1] > d.Count {
				t.Errorf("%s: count %d, buckets %v, sum of %d exponential ones %d", labels, d.Count, d.Buckets, len(d.Native.Positive), total)
			}
		}
		switch i % 20 {
		case 5:
			bind(t, r, url)
		case 10, 12:
			v.DeleteAll()
		case 15:
			r.Close(t.Context())
		}
	}
	close(stop)
	wait.Wait()
}

func TestObserveAllocates(t *testing.T) {
	r, _ := newRegistry(t, nil)
	h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions)})
	s := r.NewSummary("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5, .9, .99}})
	x := 1.0
	observe := func() {
		h.Observe(x)
		s.Observe(x)
		if x *= 1.1; x > 100 {
			x = 1
		}
	}
	for range 100 {
		observe()
	}
	if n := testing.AllocsPerRun(1000, observe); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
