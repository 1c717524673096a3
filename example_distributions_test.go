package gotheus_test

import (
	"context"
	"fmt"
	"os"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// Exponential buckets need no bounds. Prometheus scrapes them as protobuf; other formats show only
// what they support.
func ExampleNativeOptions() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	h := r.NewHistogram("size_bytes", "Sizes.", &gotheus.HistogramOptions{Native: &gotheus.NativeOptions{Factor: 1.1}})
	for _, size := range []float64{100, 2e6, 3} {
		h.Observe(size)
	}
	r.WriteText(os.Stdout)
	// Output:
	// # HELP size_bytes Sizes.
	// # TYPE size_bytes histogram
	// size_bytes_bucket{le="+Inf"} 3
	// size_bytes_sum 2000103
	// size_bytes_count 3
}

func ExampleSchemaFactor() {
	fmt.Println(gotheus.SchemaFactor(0), gotheus.SchemaFactor(-1), gotheus.SchemaFactor(-4))
	fmt.Printf("%.4f %.4f\n", gotheus.SchemaFactor(3), gotheus.SchemaFactor(8))
	// Output:
	// 2 4 65536
	// 1.0905 1.0027
}

// The quantiles are over the last ten minutes and all processes, with an error of at most 1 %.
func ExampleSummaryOptions_objectives() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	s := r.NewSummary("size_bytes", "Sizes.", &gotheus.SummaryOptions{Objectives: []float64{.5, .99}})
	for i := range 1000 {
		s.Observe(float64(i + 1))
	}
	for f := range r.Families(context.Background()) {
		for sample := range f.Samples() {
			fmt.Printf("%s%v %.0f\n", sample.Name, sample.Labels, sample.Value)
		}
	}
	// Output:
	// size_bytes[{quantile 0.5}] 497
	// size_bytes[{quantile 0.99}] 994
	// size_bytes_sum[] 500500
	// size_bytes_count[] 1000
}

type traceKey struct{}

// A function that is set once derives exemplars from contexts, so that any tracing library can be
// used.
func ExampleHistogram_ObserveContext() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{
		NoSelfMetrics: true,
		Exemplar: func(ctx context.Context) gotheus.Labels {
			if id, ok := ctx.Value(traceKey{}).(string); ok {
				return gotheus.Labels{"trace_id": id}
			}
			return nil
		},
	})
	h := r.NewHistogram("answer_seconds", "Time to answer.", &gotheus.HistogramOptions{Buckets: []float64{1}})
	ctx := context.WithValue(context.Background(), traceKey{}, "4bf92f3577b34da6")
	h.ObserveContext(ctx, .5)
	h.ObserveContext(context.Background(), .5) // counts, without an exemplar
	fmt.Println(h.Count())
	// Output: 2
}

// An exemplar describes one counted event without adding a label.
func ExampleCounter_AddExemplar() {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	c := r.NewCounter("orders_total", "Orders.", nil)
	c.AddExemplar(1, gotheus.Labels{"trace_id": "4bf92f3577b34da6"})
	r.Write(context.Background(), os.Stdout, &gotheus.WriteOptions{Format: expo.Format{Syntax: expo.Text}})
	// Output:
	// # HELP orders_total Orders.
	// # TYPE orders_total counter
	// orders_total 1
}
