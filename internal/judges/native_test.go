package judges

import (
	"bytes"
	"maps"
	"math"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// A registry's exponential buckets are what prometheus/common reads from its page, bucket by
// bucket.
func TestNativeByProtobuf(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	// schema 0: bounds are powers of 2
	h := r.NewHistogram("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 2}})
	want := map[int32]int64{}
	for i := range 200 {
		v := float64(i%50+1) * 1.5
		want[int32(math.Ceil(math.Log2(v)))]++
		h.Observe(v)
		h.Observe(-v)
	}
	h.Observe(0)
	var b bytes.Buffer
	f := expo.Format{Syntax: expo.Protobuf}
	if err := r.Write(t.Context(), &b, &gotheus.WriteOptions{Format: f}); err != nil {
		t.Fatal(err)
	}
	list, err := readFamilies(f, b.Bytes())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	got := list[0].GetMetric()[0].GetHistogram()
	if got.GetSchema() != 0 || got.GetZeroCount() != 1 || got.GetSampleCount() != 401 {
		t.Errorf("got %v", got)
	}
	positive, negative := map[int32]int64{}, map[int32]int64{}
	index, delta, count := int32(0), 0, int64(0)
	for _, s := range got.GetPositiveSpan() {
		index += s.GetOffset()
		for range s.GetLength() {
			count += got.GetPositiveDelta()[delta]
			if count != 0 {
				positive[index] = count
			}
			index, delta = index+1, delta+1
		}
	}
	index, delta, count = 0, 0, 0
	for _, s := range got.GetNegativeSpan() {
		index += s.GetOffset()
		for range s.GetLength() {
			count += got.GetNegativeDelta()[delta]
			if count != 0 {
				negative[index] = count
			}
			index, delta = index+1, delta+1
		}
	}
	if !maps.Equal(positive, want) || !maps.Equal(negative, want) {
		t.Errorf("got %v and %v, want %v", positive, negative, want)
	}
}
