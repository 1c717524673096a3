package backend_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
)

// What Subtract leaves of a sum of floats and what it has subtracted are together never less than
// the sum.
func TestSubtractFloats(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 7))
	inexact := 0
	for _, f := range []*backend.Family{
		{Name: "c_total", Kind: backend.Counter, Stripes: 2},
		{Name: "h", Kind: backend.Histogram, Buckets: []float64{1}},
		{Name: "s", Kind: backend.Summary},
	} {
		at := map[backend.Kind]int{backend.Counter: f.StripeWords() + backend.CounterFloat, backend.Histogram: backend.HistogramSum, backend.Summary: backend.SummarySum}[f.Kind]
		for range 1000 {
			counted, w := make(backend.Words, f.Words()), make(backend.Words, f.Words())
			some := math.Ldexp(rnd.Float64(), -rnd.IntN(20))
			all := some + math.Ldexp(rnd.Float64(), -rnd.IntN(20))
			counted[at].Store(math.Float64bits(some))
			w[at].Store(math.Float64bits(all))
			f.Subtract(w, counted)
			rest := math.Float64frombits(w[at].Load())
			sum := exact.Sum{Hi: some}
			sum.Add(rest)
			sum.Add(-all)
			if more := sum.Rounded(); more < 0 || rest < 0 {
				t.Fatalf("%s: %v - %v is %v", f.Name, all, some, rest)
			} else if more > 0 {
				inexact++
			}
		}
	}
	if inexact == 0 {
		t.Error("all differences were floats")
	}
}

// A gauge that is the sum or the mean of parts has the same value in any order of them.
func TestPartsInAnyOrder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 7))
	self := new(backend.Instance)
	self.ID.Store(1)
	for range 200 {
		var parts []backend.Part
		for range 6 {
			w := make(backend.Words, 3)
			w[backend.GaugeValue].Store(math.Float64bits(rnd.NormFloat64() * math.Pow(10, float64(rnd.IntN(8)))))
			w[backend.GaugeFlags].Store(backend.GaugeJoined)
			parts = append(parts, backend.Part{Words: w, Instance: self})
		}
		for _, mode := range []backend.Mode{backend.Sum, backend.Mean} {
			want, _ := backend.MergeParts(mode, parts)
			rnd.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
			if v, ok := backend.MergeParts(mode, parts); !ok || v != want {
				t.Fatalf("mode %v: %v, in another order %v", mode, v, want)
			}
		}
	}
}
