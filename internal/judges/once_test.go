package judges

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// Two programs disagree about the labels of their metrics, and some of the labels have no value: no
// page has two series that are the same to Prometheus.
func TestLabelsWithoutValues(t *testing.T) {
	t.Parallel()
	url := "shm://" + filepath.Join(t.TempDir(), "test") + "?fs=any&limit=4MiB"
	var last *gotheus.Registry
	for _, labels := range [][]string{nil, {"a"}, {"a", "b"}, {"c-d"}, {"c_d", "b"}} {
		r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true, Logger: slog.New(slog.DiscardHandler)})
		if err := r.Bind(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		defer r.Close(t.Context())
		h := &gotheus.HistogramOptions{Buckets: []float64{1}, Native: &gotheus.NativeOptions{}}
		if labels == nil {
			r.NewCounter("c_total", "C.", nil).Inc()
			r.NewGauge("g", "G.", nil).Set(1)
			r.NewHistogram("h", "H.", h).Observe(1)
			continue
		}
		for _, values := range [][]string{{"", ""}, {"v", ""}, {"", "v"}} {
			values = values[:len(labels)]
			r.NewCounterVec("c_total", "C.", nil, labels...).With(values...).Inc()
			r.NewGaugeVec("g", "G.", nil, labels...).With(values...).Set(2)
			r.NewGaugeVec("max", "M.", &gotheus.GaugeOptions{Mode: gotheus.ModeMax}, labels...).With(values...).Set(2)
			r.NewHistogramVec("h", "H.", h, labels...).With(values...).Observe(2)
			r.NewSummaryVec("s", "S.", &gotheus.SummaryOptions{Objectives: []float64{.5}}, labels...).With(values...).Observe(2)
			r.NewStateSetVec("state", "S.", []string{"on", "off"}, nil, labels...).With(values...).Set("on")
		}
		last = r
	}
	for _, f := range pagetest.Formats() {
		var page bytes.Buffer
		if err := last.Write(t.Context(), &page, &gotheus.WriteOptions{Format: f}); err != nil {
			t.Fatal(err)
		}
		if _, err := readSamples(f.ContentType(), page.Bytes()); err != nil {
			t.Errorf("%+v: %v\n%s", f, err, page.Bytes())
		}
	}
}
