package judges

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/pagetest"
)

// escapers return prometheus/common's own escaping of metrics and labels. It leaves the colons of
// labels as they are, which parsers do not take.
func escapers(e expo.Escaping) (metric, label func(string) string) {
	scheme, err := model.ToEscapingScheme(e.String())
	if err != nil {
		panic(err)
	}
	metric = func(s string) string { return model.EscapeName(s, scheme) }
	label = func(s string) string {
		if strings.Contains(s, ":") {
			return e.LabelName(s)
		}
		return model.EscapeName(s, scheme)
	}
	return metric, label
}

// readSamples reads a page as Prometheus does.
func readSamples(contentType string, body []byte) (map[string]float64, error) {
	p, err := textparse.New(slices.Clone(body), contentType, labels.NewSymbolTable(), textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: true, EnableOpenMetrics2: true})
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
			// invalid ones make Prometheus reject the page
			if _, _, h, _ := p.Histogram(); h == nil {
				return nil, errors.New("a histogram that does not count integers")
			} else if err := h.Validate(); err != nil {
				return nil, fmt.Errorf("%v: %w", h, err)
			}
		}
		if entry != textparse.EntrySeries && entry != textparse.EntryHistogram {
			continue
		}
		for x := new(exemplar.Exemplar); p.Exemplar(x); {
			if !x.Labels.IsValid(model.UTF8Validation) {
				return nil, fmt.Errorf("exemplar with labels %v", x.Labels)
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
		if name, ok := l.HasDuplicateLabelNames(); ok {
			return nil, fmt.Errorf("label %s is there twice in %v", name, l)
		}
		key := pagetest.Key(l.Get(model.MetricNameLabel), list)
		if _, ok := all[key]; ok {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		all[key] = value
	}
}

// readFamilies reads a page by prometheus/common, which knows text and protobuf.
func readFamilies(f expo.Format, body []byte) ([]*dto.MetricFamily, error) {
	format := expfmt.Format(f.ContentType())
	if f.Syntax == expo.Text || f.Syntax == expo.Text1 {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
		var list []*dto.MetricFamily
		for _, mf := range families {
			list = append(list, mf)
		}
		return list, err
	}
	d := expfmt.NewDecoder(bytes.NewReader(body), format)
	var list []*dto.MetricFamily
	for {
		mf := new(dto.MetricFamily)
		if err := d.Decode(mf); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, mf)
	}
}

func flatten(list []*dto.MetricFamily) map[string]float64 {
	all := make(map[string]float64)
	for _, mf := range list {
		for _, m := range mf.GetMetric() {
			var pairs []string
			for _, l := range m.GetLabel() {
				pairs = append(pairs, l.GetName(), l.GetValue())
			}
			put := func(suffix string, v float64, extra ...string) {
				all[pagetest.Key(mf.GetName()+suffix, append(slices.Clone(pairs), extra...))] = v
			}
			switch mf.GetType() {
			case dto.MetricType_COUNTER:
				put("", m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				put("", m.GetGauge().GetValue())
			case dto.MetricType_UNTYPED:
				put("", m.GetUntyped().GetValue())
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				for _, b := range h.GetBucket() {
					put("_bucket", float64(b.GetCumulativeCount()), "le", formatFloat(b.GetUpperBound()))
				}
				put("_sum", h.GetSampleSum())
				put("_count", float64(h.GetSampleCount()))
			case dto.MetricType_SUMMARY:
				s := m.GetSummary()
				for _, q := range s.GetQuantile() {
					put("", q.GetValue(), "quantile", formatFloat(q.GetQuantile()))
				}
				put("_sum", s.GetSampleSum())
				put("_count", float64(s.GetSampleCount()))
			}
		}
	}
	return all
}

// judgeFormat has the Go parsers that support a format read a page, or returns false if there is
// none.
func judgeFormat(t testing.TB, p pagetest.Page, f expo.Format) bool {
	t.Helper()
	if f.Syntax == expo.OpenMetrics2 {
		return false
	}
	body := p.Encode(nil, f)
	metric, label := escapers(f.NameEscaping())
	want := p.Expect(f, metric, label)
	got, err := readSamples(f.ContentType(), body)
	if err != nil {
		t.Errorf("%+v: textparse: %v\n%q", f, err, excerpt(body))
		return true
	}
	if d := pagetest.Diff(got, want); d != "" {
		t.Errorf("%+v: textparse: %s\n%s", f, d, excerpt(body))
	}
	if f.Syntax == expo.OpenMetrics0 || f.Syntax == expo.OpenMetrics1 {
		return true
	}
	list, err := readFamilies(f, body)
	if err != nil {
		t.Errorf("%+v: expfmt: %v\n%q", f, err, excerpt(body))
		return true
	}
	if d := pagetest.Diff(flatten(list), want); d != "" {
		t.Errorf("%+v: expfmt: %s\n%s", f, d, excerpt(body))
	}
	return true
}

// TestFormats has all judges read the corpus in all formats.
func TestFormats(t *testing.T) {
	t.Parallel()
	corpus := pagetest.Corpus()
	for _, f := range pagetest.Formats() {
		judgeFormat(t, corpus, f)
	}
}

// TestFormatsOfMany has them read 10,000 series in all formats.
func TestFormatsOfMany(t *testing.T) {
	t.Parallel()
	many := pagetest.Many(5000)
	for _, f := range pagetest.Formats() {
		judgeFormat(t, many, f)
	}
}

// TestExemplars checks what Prometheus reads of exemplars, start times and exponential buckets.
func TestExemplars(t *testing.T) {
	t.Parallel()
	p := pagetest.Exemplars()
	for _, f := range []expo.Format{{Syntax: expo.OpenMetrics1}, {Syntax: expo.OpenMetrics1, Created: true}, {Syntax: expo.Protobuf}} {
		body := p.Encode(nil, f)
		parser, err := textparse.New(body, f.ContentType(), labels.NewSymbolTable(), textparse.ParserOptions{KeepClassicOnClassicAndNativeHistograms: true})
		if err != nil {
			t.Fatal(err)
		}
		exemplars, natives, started := 0, 0, 0
		for {
			entry, err := parser.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%+v: %v\n%s", f, err, body)
			}
			if entry == textparse.EntryHistogram {
				_, _, h, _ := parser.Histogram()
				if h == nil {
					t.Fatal("not an integer histogram")
				}
				if err := h.Validate(); err != nil {
					t.Errorf("%v: %v", h, err)
				}
				if h.Count == 306 {
					natives++
					if want := "{count:306, sum:400, [-1.5422108254079407,-1.414213562373095):1, [-1e-128,1e-128]:1, (0.7071067811865475,0.7711054127039704]:2, (0.7711054127039704,0.8408964152537144]:1, (1,1.0905077326652577]:300, (1.0905077326652577,1.189207115002721]:1}"; h.String() != want {
						t.Errorf("histogram %s, want %s", h, want)
					}
				}
			}
			if entry == textparse.EntrySeries || entry == textparse.EntryHistogram {
				if parser.StartTimestamp() != 0 {
					started++
				}
				for x := new(exemplar.Exemplar); exemplars < 100 && parser.Exemplar(x); exemplars++ {
				}
			}
		}
		if f.Syntax == expo.Protobuf && natives != 2 {
			t.Errorf("%d native histograms", natives)
		}
		if exemplars == 0 || (f.Created || f.Syntax == expo.Protobuf) && started == 0 {
			t.Errorf("%+v: %d exemplars, %d start times", f, exemplars, started)
		}
	}
}

const (
	python       = "/usr/bin/python3"
	pythonClient = "python3-prometheus-client"
)

// TestLint checks that promlint finds no problem on a page of well-named metrics.
func TestLint(t *testing.T) {
	t.Parallel()
	for _, p := range []pagetest.Page{pagetest.Exemplars()[:2], pagetest.Named(), pagetest.Many(10)} {
		body := p.Encode(nil, expo.Format{})
		problems, err := promlint.New(bytes.NewReader(body)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
	}
}

// checkLines checks that a page consists of nonempty lines, or of messages with correct lengths.
func checkLines(t testing.TB, f expo.Format, page []byte) {
	t.Helper()
	if f.Syntax == expo.Protobuf {
		for len(page) > 0 {
			n, size := binary.Uvarint(page)
			if size <= 0 || n > uint64(len(page)-size) {
				t.Errorf("a message of %d bytes has %d", n, len(page)-size)
				return
			}
			page = page[size+int(n):]
		}
		return
	}
	if len(page) > 0 && (page[0] == '\n' || page[len(page)-1] != '\n' || bytes.Contains(page, []byte("\n\n"))) {
		t.Errorf("%+v: lines are not in order: %q", f, page)
	}
}

// FuzzEncoders encodes random pages with every encoder and escaping.
func FuzzEncoders(f *testing.F) {
	fuzzPages(f, func(t *testing.T, p pagetest.Page) {
		for _, format := range pagetest.Formats() {
			body := p.Encode([]byte("before"), format)
			page, ok := bytes.CutPrefix(body, []byte("before"))
			if !ok {
				t.Fatalf("%+v: what was there is gone", format)
			}
			checkLines(t, format, page)
		}
	})
}

// FuzzJudges checks that the parsers read random pages correctly in every format.
func FuzzJudges(f *testing.F) {
	fuzzPages(f, func(t *testing.T, p pagetest.Page) {
		for _, format := range pagetest.Formats() {
			judgeFormat(t, p, format)
		}
	})
}

func fuzzPages(f *testing.F, check func(*testing.T, pagetest.Page)) {
	for i, a := range pagetest.Awkward {
		f.Add(uint64(i), a, "x")
	}
	for i := range uint64(200) {
		f.Add(i, "a.b", "\xff")
	}
	f.Fuzz(func(t *testing.T, seed uint64, a, b string) {
		check(t, pagetest.Random(rand.New(rand.NewPCG(seed, 1)), a, b))
	})
}
