package expo_test

import (
	"testing"

	"github.com/gotheus/gotheus/expo"
)

// BenchmarkNumber and BenchmarkHistogram encode a series in each format.
func BenchmarkNumber(b *testing.B) {
	f := &expo.Family{Name: "requests_total", Help: "Requests.", Type: expo.Counter, ClassicLabels: true}
	n := &expo.Number{Int: 123456}
	benchmark(b, f, func(e expo.Encoder, dst []byte) []byte {
		return e.Number(dst, `method="GET",route="/api/v1/route/12345"`, n)
	})
}

func BenchmarkHistogram(b *testing.B) {
	f := &expo.Family{Name: "seconds", Help: "Time.", Type: expo.Histogram, Bounds: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}, ClassicLabels: true}
	d := &expo.Distribution{Count: 20, Sum: 12.34, Buckets: []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}
	benchmark(b, f, func(e expo.Encoder, dst []byte) []byte { return e.Distribution(dst, `route="/api/v1/route/12345"`, d) })
}

func benchmark(b *testing.B, f *expo.Family, encode func(e expo.Encoder, dst []byte) []byte) {
	for name, format := range map[string]expo.Format{
		"text": {}, "text1": {Syntax: expo.Text1, Escaping: expo.AllowUTF8}, "openmetrics": {Syntax: expo.OpenMetrics1},
		"openmetrics2": {Syntax: expo.OpenMetrics2}, "protobuf": {Syntax: expo.Protobuf}, "dots": {Escaping: expo.Dots},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			e := expo.NewEncoder(format)
			dst := e.Family(make([]byte, 0, 1<<20), f)
			for b.Loop() {
				if dst = encode(e, dst); len(dst) > 1<<19 {
					dst = dst[:0]
				}
			}
		})
	}
}
