package judges

import (
	"bytes"
	"math"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// boundOf returns the upper bound that Prometheus gives to an exponential bucket.
func boundOf(schema, index int32) float64 {
	h := histogram.FloatHistogram{Schema: schema, PositiveSpans: []histogram.Span{{Offset: index, Length: 1}}, PositiveBuckets: []float64{1}}
	it := h.PositiveBucketIterator()
	it.Next()
	return it.At().Upper
}

// A value on the bound of an exponential bucket, as Prometheus computes it, is in the bucket below;
// the next larger one is in the bucket above. The other library agrees about all of them.
func TestValuesOnBounds(t *testing.T) {
	t.Parallel()
	for schema := int32(-4); schema <= 8; schema++ {
		t.Run(strconv.Itoa(int(schema)), func(t *testing.T) {
			t.Parallel()
			factor := gotheus.SchemaFactor(int(schema))
			r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
			v := r.NewHistogramVec("h", "H.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: factor, ZeroThreshold: -1}}, "v")
			theirs := map[string]int32{} // by the text of the value
			observe := func(value float64) {
				text := strconv.FormatFloat(value, 'g', -1, 64)
				v.With(text).Observe(value)
				h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h",
					// It takes a schema whose factor is below.
					NativeHistogramBucketFactor:  math.Nextafter(factor, math.Inf(1)),
					NativeHistogramZeroThreshold: prometheus.NativeHistogramZeroThresholdZero})
				h.Observe(value)
				m := new(dto.Metric)
				if err := h.Write(m); err != nil || m.GetHistogram().GetSchema() != schema {
					t.Fatal(m.GetHistogram().GetSchema(), err)
				}
				theirs[text] = m.GetHistogram().GetPositiveSpan()[0].GetOffset()
			}
			for i := range int32(1) << max(schema, 0) {
				// The last two exponents are those of subnormal numbers.
				for _, exp := range []int{0, 1, -3, 1000, -1030, -1060} {
					value := boundOf(schema, i)
					if schema > 0 {
						value = math.Ldexp(value, exp)
					} else if value = math.Exp2(float64(exp)); exp == 1 {
						value = math.MaxFloat64
					}
					observe(math.Nextafter(value, 0))
					observe(value)
					if value < math.MaxFloat64 {
						observe(math.Nextafter(value, math.MaxFloat64))
					}
				}
			}
			f := expo.Format{Syntax: expo.Protobuf}
			var page bytes.Buffer
			if err := r.Write(t.Context(), &page, &gotheus.WriteOptions{Format: f}); err != nil {
				t.Fatal(err)
			}
			families, err := readFamilies(f, page.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			seen, wrong := 0, 0
			for _, mf := range families {
				for _, m := range mf.GetMetric() {
					text, h := m.GetLabel()[0].GetValue(), m.GetHistogram()
					index, value := h.GetPositiveSpan()[0].GetOffset(), 0.0
					if value, err = strconv.ParseFloat(text, 64); err != nil || h.GetSchema() != schema || h.GetSampleCount() != 1 {
						t.Fatal(m, err)
					}
					seen++
					inside := value <= boundOf(schema, index) && value > boundOf(schema, index-1)
					// Bounds that are subnormal are rounded.
					if subnormal := value < 0x1p-1022; index != theirs[text] || !inside && !subnormal {
						wrong++
						t.Logf("%v is in bucket %d, from %v to %v; the other library says %d", value, index, boundOf(schema, index-1), boundOf(schema, index), theirs[text])
					}
				}
			}
			if wrong > 0 || seen != len(theirs) {
				t.Errorf("%d of %d values are in a wrong bucket; %d were observed", wrong, seen, len(theirs))
			}
		})
	}
}
