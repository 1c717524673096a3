package strict

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/hostiletest"
	"github.com/gotheus/gotheus/internal/pagetest"
)

var pages = flag.Int("pages", 20, "how many random pages are read")

// TestStrict has the newest judges read the corpus and random pages.
func TestStrict(t *testing.T) {
	t.Parallel()
	for i := range 2 + *pages {
		t.Run(fmt.Sprintf("page %d", i), func(t *testing.T) {
			t.Parallel()
			p := pagetest.Corpus()
			switch {
			case i == 1:
				p = pagetest.Exemplars()
			case i > 1:
				p = pagetest.Random(rand.New(rand.NewPCG(2, uint64(i))))
			}
			for _, f := range pagetest.Formats() {
				body := p.Encode(nil, f)
				scheme, err := model.ToEscapingScheme(f.NameEscaping().String())
				if err != nil {
					t.Fatal(err)
				}
				want := p.Expect(f, func(s string) string { return model.EscapeName(s, scheme) }, f.NameEscaping().LabelName)
				got, err := byTextparse(f, body)
				if err != nil {
					t.Fatalf("%+v: textparse: %v\n%s", f, err, body)
				}
				if d := pagetest.Diff(got, want); d != "" && i != 1 {
					t.Fatalf("%+v: textparse: %s\n%s", f, d, body)
				}
				if f.Syntax != expo.OpenMetrics0 && f.Syntax != expo.OpenMetrics1 {
					continue
				}
				known := slices.DeleteFunc(slices.Clone(p), func(f pagetest.Family) bool {
					// which the decoder does not know
					return f.Type == expo.Info || f.Type == expo.StateSet
				})
				body = known.Encode(nil, f)
				want = known.Expect(f, func(s string) string { return model.EscapeName(s, scheme) }, f.NameEscaping().LabelName)
				got, err = byExpfmt(f, body)
				if err != nil {
					t.Fatalf("%+v: expfmt: %v\n%s", f, err, body)
				}
				for key := range want {
					if strings.Contains(key, `_created"`) {
						delete(want, key) // it becomes a field of its own
					}
				}
				if d := pagetest.Diff(got, want); d != "" && i != 1 {
					t.Fatalf("%+v: expfmt: %s\n%s", f, d, body)
				}
			}
		})
	}
}

// TestHostile has the newest judges read pages that hostile texts and words have come into.
func TestHostile(t *testing.T) {
	t.Parallel()
	for name, r := range hostiletest.Registries(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, f := range pagetest.Formats() {
				var b bytes.Buffer
				if err := r.Write(context.Background(), &b, &gotheus.WriteOptions{Format: f}); err != nil {
					t.Fatal(err)
				}
				got, err := byTextparse(f, b.Bytes())
				if err != nil {
					t.Errorf("%+v: textparse: %v", f, err)
				}
				hostiletest.Check(t, f, got)
				// The other decoder is slow, and knows neither infos nor state
				// sets.
				if f.Syntax != expo.OpenMetrics1 || f.Created || f.Escaping > expo.AllowUTF8 || name == "info" || name == "state" || name == "collector" || strings.Contains(name, "words") {
					continue
				}
				if got, err = byExpfmt(f, b.Bytes()); err != nil {
					t.Errorf("%+v: expfmt: %v", f, err)
				}
				hostiletest.Check(t, f, got)
			}
		})
	}
}

func byTextparse(f expo.Format, body []byte) (map[string]float64, error) {
	o := textparse.ParserOptions{EnableOpenMetrics2: true, KeepClassicOnClassicAndNativeHistograms: true}
	p, err := textparse.New(slices.Clone(body), f.ContentType(), labels.NewSymbolTable(), o)
	if err != nil {
		return nil, err
	}
	all := make(map[string]float64)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if entry == textparse.EntryHistogram {
			_, _, h, fh := p.Histogram()
			if h != nil {
				err = h.Validate()
			} else {
				err = fh.Validate()
			}
			if err != nil {
				return nil, err
			}
		}
		if entry == textparse.EntrySeries || entry == textparse.EntryHistogram {
			for x := new(exemplar.Exemplar); p.Exemplar(x); {
				if !x.Labels.IsValid(model.UTF8Validation) {
					return nil, fmt.Errorf("exemplar with labels %v", x.Labels)
				}
			}
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := p.Series()
		var l labels.Labels
		p.Labels(&l)
		var list []string
		l.Range(func(l labels.Label) {
			if l.Name != model.MetricNameLabel {
				list = append(list, l.Name, l.Value)
			}
		})
		key := pagetest.Key(l.Get(model.MetricNameLabel), list)
		if _, ok := all[key]; ok {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		all[key] = value
	}
}

func byExpfmt(f expo.Format, body []byte) (map[string]float64, error) {
	d := expfmt.NewDecoder(bytes.NewReader(body), expfmt.Format(f.ContentType()))
	all := make(map[string]float64)
	for {
		mf := new(dto.MetricFamily)
		if err := d.Decode(mf); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		for _, m := range mf.GetMetric() {
			var pairs []string
			for _, l := range m.GetLabel() {
				pairs = append(pairs, l.GetName(), l.GetValue())
			}
			put := func(suffix string, v float64, extra ...string) {
				all[pagetest.Key(mf.GetName()+suffix, append(slices.Clone(pairs), extra...))] = v
			}
			switch {
			case m.Counter != nil:
				put("", m.Counter.GetValue())
			case m.Gauge != nil:
				put("", m.Gauge.GetValue())
			case m.Untyped != nil:
				put("", m.Untyped.GetValue())
			case m.Histogram != nil:
				h := m.Histogram
				for _, b := range h.Bucket {
					put("_bucket", float64(b.GetCumulativeCount()), "le", fmt.Sprint(b.GetUpperBound()))
				}
				if h.SampleSum != nil {
					put("_sum", h.GetSampleSum())
				}
				if h.SampleCount != nil {
					put("_count", float64(h.GetSampleCount()))
				}
			case m.Summary != nil:
				s := m.Summary
				for _, q := range s.Quantile {
					put("", q.GetValue(), "quantile", fmt.Sprint(q.GetQuantile()))
				}
				if s.SampleSum != nil {
					put("_sum", s.GetSampleSum())
				}
				if s.SampleCount != nil {
					put("_count", float64(s.GetSampleCount()))
				}
			}
		}
	}
}
