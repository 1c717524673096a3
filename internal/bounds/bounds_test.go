package bounds

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
)

var defaultBounds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func linear(start, width float64, n int) (list []float64) {
	for i := range n {
		list = append(list, start+width*float64(i))
	}
	return list
}

func exponential(start, factor float64, n int) (list []float64) {
	for range n {
		list = append(list, start)
		start *= factor
	}
	return list
}

// Whatever the bounds, the table finds what a search finds: for bounds, their neighbours, and at
// random.
func TestBuckets(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	smallest := math.SmallestNonzeroFloat64
	lists := map[string][]float64{
		"default": defaultBounds, "none": {}, "zero": {0}, "one": {1}, "negative": {-1}, "negatives": {-2, -1}, "around zero": {-1, 0, 1},
		"linear": linear(1, 1, 100), "from zero": linear(0, .1, 50), "fine": linear(1, .001, 100), "powers": exponential(1e-6, 2, 50),
		"neighbours": {1, math.Nextafter(1, 2)}, "extremes": {-math.MaxFloat64, -smallest, smallest, math.MaxFloat64}, "denormal": {smallest, 2 * smallest, 0x1p-1022},
		"far": {1e-300, 1e300}, "zero and one": {0, 1},
	}
	for range 200 {
		var list []float64
		for v := random.NormFloat64() * 10; len(list) < 1+random.IntN(40); v += random.ExpFloat64() * math.Exp2(float64(random.IntN(10)-5)) {
			list = append(list, v)
		}
		lists[""] = list
		for name, bounds := range lists {
			checkBuckets(t, name, bounds, random)
		}
		delete(lists, "default")
	}
	if p := Of(defaultBounds); len(p.cells) != 13 {
		t.Errorf("%d cells for the default buckets", len(p.cells))
	}
}

func checkBuckets(t *testing.T, name string, bounds []float64, random *rand.Rand) {
	t.Helper()
	p := Of(bounds)
	values := []float64{0, math.Copysign(0, -1), math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, math.MaxFloat64, -math.MaxFloat64, random.NormFloat64(), math.Exp(random.NormFloat64() * 9)}
	for _, b := range bounds {
		values = append(values, b, -b, math.Nextafter(b, math.Inf(1)), math.Nextafter(b, math.Inf(-1)))
	}
	for _, v := range values {
		if math.IsInf(v, 0) {
			continue
		}
		if got, want := p.Find(v), sort.SearchFloat64s(bounds, v); got != want {
			t.Fatalf("%s: %v is in bucket %d of %v, want %d (%d cells)", name, v, got, bounds, want, len(p.cells))
		}
	}
}
