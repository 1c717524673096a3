package page

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/word"
)

// The sum of a striped counter or histogram never decreases while its stripes grow, also where the
// integers of a counter exceed what one word holds.
func TestStripesNeverDecrease(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 7))
	counter := &backend.Family{Name: "c_total", Kind: backend.Counter, Stripes: 3}
	histogram := &backend.Family{Name: "h", Kind: backend.Histogram, Buckets: []float64{1}, Stripes: 3}
	for round := range 500 {
		c, h := make(backend.Words, counter.Words()), make(backend.Words, histogram.Words())
		if round%2 == 0 {
			for i, start := range []uint64{backend.IntLimit/2 - 1000, backend.IntLimit/2 - 1000, rnd.Uint64N(5000)} {
				c[i*counter.StripeWords()+backend.CounterInt].Store(start)
			}
		}
		lastCounter, lastSum := 0.0, 0.0
		for range 100 {
			i := rnd.IntN(3)
			v := rnd.ExpFloat64() * math.Pow(10, float64(rnd.IntN(3+round%2*13)))
			word.AddFloat(&h[i*histogram.StripeWords()+backend.HistogramSum], v)
			if rnd.IntN(2) == 0 {
				word.AddFloat(&c[i*counter.StripeWords()+backend.CounterFloat], v)
			} else {
				c[i*counter.StripeWords()+backend.CounterInt].Add(uint64(v))
			}
			var n expo.Number
			n.Int, n.Float = Counter(counter, c)
			if now := n.Value(); now < lastCounter {
				t.Fatalf("counter: %v after %v", now, lastCounter)
			} else {
				lastCounter = now
			}
			var d expo.Distribution
			new(Reader).Histogram(&d, histogram, h)
			if d.Sum < lastSum {
				t.Fatalf("histogram: %v after %v", d.Sum, lastSum)
			}
			lastSum = d.Sum
		}
	}
}
