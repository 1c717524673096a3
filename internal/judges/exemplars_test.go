package judges

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
)

// A page has each exemplar of a histogram once, whichever buckets the histogram has. Prometheus
// reads all of them: from protobuf, for the native histogram and again for its classic buckets.
func TestExemplarsOnce(t *testing.T) {
	t.Parallel()
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{NoSelfMetrics: true})
	native := &gotheus.NativeOptions{Factor: 2}
	kinds := map[string]*gotheus.HistogramOptions{
		"both": {Native: native, Buckets: []float64{1, 8}}, "native": {Native: native}, "classic": {Buckets: []float64{1, 8}},
	}
	for name, o := range kinds {
		h := r.NewHistogram(name, "H.", o)
		for i, v := range []float64{.5, 2, 50} {
			h.ObserveExemplar(v, gotheus.Labels{"id": fmt.Sprint(name, i)})
		}
	}
	for _, f := range []expo.Format{{Syntax: expo.Text}, {Syntax: expo.OpenMetrics1}, {Syntax: expo.OpenMetrics2}, {Syntax: expo.Protobuf}} {
		var page bytes.Buffer
		if err := r.Write(t.Context(), &page, &gotheus.WriteOptions{Format: f}); err != nil {
			t.Fatal(err)
		}
		for name := range kinds {
			want := 1
			if f.Syntax == expo.Text || name == "native" && f.Syntax == expo.OpenMetrics1 {
				want = 0 // the format cannot show them
			}
			for i := range 3 {
				id := fmt.Sprint(name, i)
				if got := bytes.Count(page.Bytes(), []byte(id)); got != want {
					t.Errorf("%+v: exemplar %s is there %d times, want %d", f, id, got, want)
				}
			}
		}
		want := map[string]int{}
		add := func(series, name string) {
			for i := range 3 {
				want[fmt.Sprint(series, " ", name, i)] = 1
			}
		}
		switch f.Syntax {
		case expo.OpenMetrics1:
			add("series", "both")
			add("series", "classic")
		case expo.Protobuf:
			add("histogram", "both")
			add("histogram", "native")
			add("series", "both")
			add("series", "classic")
		case expo.OpenMetrics2:
			add("histogram", "both")
			add("histogram", "native")
			add("series", "classic")
		}
		if got := exemplarsRead(t, f, page.Bytes()); !maps.Equal(got, want) {
			t.Errorf("%+v: Prometheus reads %v, want %v", f, got, want)
		}
	}
}

// exemplarsRead returns how often Prometheus reads each exemplar for a native histogram, and for
// series.
func exemplarsRead(t *testing.T, f expo.Format, page []byte) map[string]int {
	t.Helper()
	p, err := textparse.New(page, f.ContentType(), labels.NewSymbolTable(), textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: true, EnableOpenMetrics2: true})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if entry == textparse.EntryHistogram {
			p.Histogram() // the parser repeats only what was read as classic buckets
		}
		kind := map[textparse.Entry]string{textparse.EntrySeries: "series", textparse.EntryHistogram: "histogram"}[entry]
		for x := new(exemplar.Exemplar); kind != "" && p.Exemplar(x); x = new(exemplar.Exemplar) {
			found[kind+" "+x.Labels.Get("id")]++
		}
	}
}
