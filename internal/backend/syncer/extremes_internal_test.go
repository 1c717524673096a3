package syncer

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Readers accept whatever an honest process can write of the largest families that there are: their
// definitions, full chunks of their words, label texts, and series without numbers.
func TestExtremes(t *testing.T) {
	t.Parallel()
	bounds := make([]float64, backend.MaxBuckets)
	for i := range bounds {
		bounds[i] = float64(i)
	}
	labels := []string{"x"}
	histogram := &backend.Family{Name: "h", Help: "H.", Kind: backend.Histogram, Labels: labels, Buckets: bounds}
	striped := *histogram
	striped.Name, striped.Stripes = "hs", backend.MaxStripes
	native := &backend.Family{Name: "n", Help: "N.", Kind: backend.Histogram, Labels: labels, Buckets: bounds,
		Native: &backend.Native{Schema: 8, MaxBuckets: backend.MaxBlock}}
	summary := &backend.Family{Name: "s", Help: "S.", Kind: backend.Summary, Labels: labels,
		// The smallest relative error that options allow, 0.005.
		Sketch: &backend.Sketch{Quantiles: []float64{.5, .99}, PerDoubling: 70, Slots: 60, MaxAge: time.Hour}}
	for _, def := range []*backend.Family{
		{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: labels, Stripes: backend.MaxStripes},
		{Name: "g", Help: "G.", Kind: backend.Gauge, Labels: labels},
		histogram, &striped, native, summary,
		// the larger of the sizes in use
		histogram.With(backend.Block{Role: backend.ExemplarRole, Size: 128}),
		native.With(backend.Block{Role: backend.BucketRole, Size: backend.MaxBlock}),
		summary.With(backend.Block{Role: backend.BucketRole, Size: 2048}),
	} {
		what := fmt.Sprintf("%s %v", def.Name, def.Block)
		if err := def.Check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		s := newSingle(nil, options{manual: true})
		s.dir.version = 1
		f := s.family(def)
		s.appendFamily(f, def.Help)
		other := newSingle(nil, options{manual: true})
		if err := other.readFamily(f.entry(def.Help)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		n := firstChunk(f.list())
		most := max(1, min(chunkSize, 1<<21/f.stored)) // more would only take time
		want := make(map[uint32]entry)
		for i := range most {
			text, _ := def.LabelText(fmt.Sprint(i))
			r := f.row(text)
			s.dir.assign(r, n<<chunkBits+uint32(i), slot{since: 1})
			words := slices.Repeat([]uint64{math.MaxUint64 >> 8 * uint64(i%2)}, f.stored)
			var low []uint64
			for _, w := range f.floats {
				words[w] = math.Float64bits(math.MaxFloat64)
				low = append(low, math.Float64bits(math.SmallestNonzeroFloat64))
			}
			if f.start >= 0 {
				words[f.start] = maxStart*startUnit - uint64(i%2)*math.MaxUint64/2/startUnit*startUnit
			}
			want[r.id] = entry{row: r, words: words, low: low}
		}
		c := s.encode(n, want, 1)
		if err := s.checkChunk(n, c); err != nil {
			t.Errorf("%s: %d series of %d words: %v", what, most, f.stored, err)
		}
		if got, err := s.decode(n, &contributor{chunks: map[uint32]chunk{n: c}}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d series became %d, or have other words: %v", what, len(want), len(got), err)
		}
		text, _ := def.LabelText(strings.Repeat("x", backend.MaxText-len(`x=""`)))
		inline := []looseEntry{{fam: f, labels: text, words: want[n<<chunkBits].words}}
		if err := f.checkLabels(text); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := other.decodeInline(encodeInline(inline)); err != nil || len(got) != 1 || got[0].labels != text || !reflect.DeepEqual(got[0].words, inline[0].words) {
			t.Errorf("%s: a series without a number became %d others: %v", what, len(got), err)
		}
		if p := c.part(); len(p) > 64<<20 {
			t.Errorf("%s: a part has %d bytes", what, len(p))
		}
	}
}
