package page

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/sparse"
)

// However full the words of many instances are, what they add up to is a valid histogram whose
// counts do not decrease from one instance to the next.
func TestFullWords(t *testing.T) {
	t.Parallel()
	native := &backend.Native{Schema: 0, MaxBuckets: 3}
	for name, f := range map[string]*backend.Family{
		"both":     {Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2, 3}, Native: native},
		"native":   {Name: "h", Kind: backend.Histogram, Native: native},
		"classic":  {Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2, 3}},
		"striped":  {Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2, 3}, Stripes: 3},
		"foreign":  {Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2, 3}},
		"foreign3": {Name: "h", Kind: backend.Histogram, Buckets: []float64{1, 2, 3}, Stripes: 3},
	} {
		to, last := make(backend.Words, f.Words()), expo.Distribution{}
		last.Buckets = make([]uint64, len(f.Buckets))
		for i := range 10 {
			from := make(backend.Words, f.Words())
			if f.Classic() {
				each := f.BucketLimit()
				if name[0] == 'f' { // what no process of this library writes
					each = backend.SealedInt - 1
				}
				for s := range max(f.Stripes, 1) {
					for b := range len(f.Buckets) + 1 {
						from[s*f.StripeWords()+backend.HistogramBuckets+b].Store(each)
					}
				}
			}
			if f.Native != nil {
				block := f.View(from)
				block.Zero().Store(backend.IntLimit)
				for b := range int32(5) {
					block.Find(b, b%2 == 0).Store(backend.IntLimit)
				}
			}
			if name[0] == 'f' {
				to = from
			} else {
				to = f.Merge(to, from)
			}
			var d expo.Distribution
			new(Reader).Histogram(&d, f, to)
			where := fmt.Sprintf("%s, %d instances: %d %v %+v", name, i+1, d.Count, d.Buckets, d.Native)
			if d.Count < last.Count || d.Count < backend.IntLimit-100 || d.Count >= backend.SealedInt {
				t.Errorf("%s: after %d", where, last.Count)
			}
			for b, n := range d.Buckets {
				if n < last.Buckets[b] || n > d.Count || !slices.IsSorted(d.Buckets) {
					t.Errorf("%s: after %v", where, last.Buckets)
				}
			}
			if n := d.Native; n != nil {
				total := n.ZeroCount
				for _, b := range slices.Concat(n.Positive, n.Negative) {
					total += b.Count
				}
				if total != d.Count {
					t.Errorf("%s: the buckets hold %d", where, total)
				}
			}
			d.Buckets = slices.Clone(d.Buckets)
			last = d
		}
	}
}

// The quantiles of full words are those of their buckets.
func TestQuantilesOfFullWords(t *testing.T) {
	t.Parallel()
	f := &backend.Family{Name: "s", Kind: backend.Summary,
		Sketch: &backend.Sketch{Quantiles: []float64{0, .5, 1}, PerDoubling: 35, Slots: 5, MaxAge: time.Minute}}
	to := make(backend.Words, f.Words())
	for range 5 {
		from := make(backend.Words, f.Words())
		block := f.View(from)
		for _, v := range []float64{1, 2} {
			block.Find(sparse.ScaleOf(35).Index(v), false).Store(backend.IntLimit)
		}
		to = f.Merge(to, from)
		var d expo.Distribution
		new(Reader).quantiles(&d, f, to, 0)
		if q := d.Quantiles; !(q[0] < 1.1 && q[1] < 1.1 && q[2] > 1.9) {
			t.Errorf("the quantiles are %v", q)
		}
	}
}
