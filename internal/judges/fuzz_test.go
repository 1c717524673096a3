package judges

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gotheus/gotheus"
)

// shownValues returns label values as pages show them.
func shownValues(values ...string) []string {
	shown := make([]string, len(values))
	long := false
	for i, v := range values {
		shown[i] = strings.ToValidUTF8(v, "\uFFFD")
		long = long || max(len(v), len(shown[i])) > 1024
	}
	if long {
		for i := range shown {
			shown[i] = gotheus.OverflowValue
		}
	}
	return shown
}

// FuzzRoundTrip: whatever text and values a registry accepts come back from its page.
func FuzzRoundTrip(f *testing.F) {
	for i, v := range floats {
		f.Add(helps[i%len(helps)], awkward[i], awkward[len(awkward)-1-i], v, uint64(1)<<(3*i), -v)
	}
	f.Add("\xff", "", "", 0.0, uint64(0), 0.0)
	f.Add("", "", "", 0.0, uint64(0), 0.0)
	f.Add(" \t x", "\xff", "\xc3\x28", 0.0, uint64(0), 0.0)
	f.Add(" ", "", "", 0.0, uint64(0), 0.0)
	f.Add("x", "\x00\xff\xfe\n\"", "\xed\xa0\x80\\", 0.0, uint64(0), 0.0)
	f.Add("x", strings.Repeat("\xffx", 600), "x", 0.0, uint64(0), 0.0)
	f.Add("x", strings.Repeat("x", 1024), strings.Repeat("\"", 1025), 0.0, uint64(0), 0.0)
	f.Fuzz(func(t *testing.T, help, a, b string, v float64, n uint64, bound float64) {
		o := gotheus.RegistryOptions{Logger: slog.New(slog.DiscardHandler), NoSelfMetrics: true}
		r := gotheus.NewRegistry(&o)
		counters, err := gotheus.TryNewVec[gotheus.Counter](r, "c_total", help, nil, "a", "b")
		if ok := help != "" && utf8.ValidString(help); !ok {
			if !errors.Is(err, gotheus.ErrInvalid) {
				t.Fatalf("help %q: %v", help, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		counter, err := counters.TryWith(a, b)
		if err != nil {
			t.Fatal(err)
		}
		e := &expected{make(page), o}
		e.family("c_total", "counter", trimHelp(help))
		n %= 1 << 53
		counter.Add(float64(n))
		shown := shownValues(a, b)
		e.put("c_total", "", float64(n), "a", shown[0], "b", shown[1])

		r.NewGaugeVec("g", "Gauge.", nil, "a", "b").With(b, a).Set(v)
		e.family("g", "gauge", "Gauge.")
		e.put("g", "", v, "a", shown[1], "b", shown[0])

		buckets := []float64{bound}
		if v < bound {
			buckets = []float64{v, bound}
		}
		ho := &gotheus.HistogramOptions{Buckets: buckets}
		histograms, err := gotheus.TryNewVec[gotheus.Histogram](r, "h", "Histogram.", ho, "b")
		if finite(buckets[0]) && finite(bound) {
			if err != nil {
				t.Fatal(err)
			}
			h := histograms.With(a)
			e.family("h", "histogram", "Histogram.")
			var observed []float64
			for _, x := range []float64{v, bound, 1, float64(n)} {
				h.Observe(x)
				if finite(x) {
					observed = append(observed, x)
				}
			}
			e.histogram("h", buckets, observed, "b", shownValues(a)[0])
		} else if !errors.Is(err, gotheus.ErrInvalid) {
			t.Fatalf("buckets %v: %v", buckets, err)
		}

		var text bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if d := diff(judge(t, "text/plain; version=0.0.4; charset=utf-8", text.Bytes()), e.page); d != "" {
			t.Errorf("%s\n%s", d, text.Bytes())
		}
	})
}

func finite(v float64) bool { return !math.IsInf(v, 0) && !math.IsNaN(v) }
