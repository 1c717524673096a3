package judges

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// page is what a judge has read, or what a test expects it to read, by family name.
type page map[string]*family

type family struct {
	typ, help string
	samples   map[string]float64 // by name and labels, see family.key
	list      []sample           // in the order of the page
}

type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// key identifies a sample. Bounds are numbers, which judges may write differently.
func (f *family) key(s *sample) string {
	b := []byte(s.name)
	for _, name := range slices.Sorted(maps.Keys(s.labels)) {
		value := s.labels[name]
		if name == f.boundLabel() {
			if bound, err := strconv.ParseFloat(value, 64); err == nil {
				value = formatFloat(bound + 0) // -0 is no other bound than 0
			}
		}
		b = append(append(append(b, ' '), name...), '=')
		b = strconv.AppendQuote(b, value)
	}
	return string(b)
}

func (f *family) boundLabel() string {
	switch f.typ {
	case "histogram":
		return "le"
	case "summary":
		return "quantile"
	}
	return ""
}

func (f *family) add(s sample) error {
	key := f.key(&s)
	if _, ok := f.samples[key]; ok {
		return fmt.Errorf("%s is on the page twice", key)
	}
	if f.samples == nil {
		f.samples = make(map[string]float64)
	}
	f.samples[key] = s.value
	f.list = append(f.list, s)
	return nil
}

// judge has both parsers read a page. What they read must be the same but for families without
// series, which only textparse reports; the page returned is textparse's.
func judge(t testing.TB, contentType string, body []byte) page {
	t.Helper()
	byTextparse, err := readTextparse(contentType, body)
	if err != nil {
		t.Fatalf("textparse: %v\n%s", err, excerpt(body))
	}
	byExpfmt, err := readExpfmt(body)
	if err != nil {
		t.Fatalf("expfmt: %v\n%s", err, excerpt(body))
	}
	withSeries := maps.Clone(byTextparse)
	maps.DeleteFunc(withSeries, func(_ string, f *family) bool { return len(f.samples) == 0 })
	if d := diff(byExpfmt, withSeries); d != "" {
		t.Fatalf("expfmt and textparse differ: %s\n%s", d, excerpt(body))
	}
	return byTextparse
}

func excerpt(body []byte) []byte { return body[:min(len(body), 4000)] }

// readTextparse reads a page as Prometheus does: the parser is chosen by the Content-Type, without
// a fallback. Unlike Prometheus it insists on help and type before a family's samples.
func readTextparse(contentType string, body []byte) (page, error) {
	p, err := textparse.New(slices.Clone(body), contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	pg := make(page)
	var f *family
	var name string // of f
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return pg, nil
		}
		if err != nil {
			return nil, err
		}
		switch entry {
		case textparse.EntryHelp:
			n, help := p.Help()
			name = string(n)
			if pg[name] != nil {
				return nil, fmt.Errorf("family %s is on the page twice", name)
			}
			f = &family{help: trimHelp(string(help))}
			pg[name] = f
		case textparse.EntryType:
			n, typ := p.Type()
			if f == nil || string(n) != name || f.typ != "" {
				return nil, fmt.Errorf("the type of %s is not behind its help", n)
			}
			f.typ = string(typ)
		case textparse.EntrySeries:
			_, timestamp, value := p.Series()
			var l labels.Labels
			p.Labels(&l)
			s := sample{name: l.Get(model.MetricNameLabel), labels: l.Map(), value: value}
			delete(s.labels, model.MetricNameLabel)
			if f == nil || f.typ == "" || !belongs(f, name, s.name) || timestamp != nil {
				return nil, fmt.Errorf("%v has a timestamp or is not of family %s", l, name)
			}
			if len(s.labels) != l.Len()-1 {
				return nil, fmt.Errorf("%v has a label twice", l)
			}
			if err := f.add(s); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("unexpected entry %d", entry)
		}
	}
}

// trimHelp drops what not every judge reads at the beginning of a help text: expfmt skips blanks,
// and textparse NUL.
func trimHelp(help string) string { return strings.TrimLeft(help, " \t\x00") }

func belongs(f *family, name, sample string) bool {
	suffix, ok := strings.CutPrefix(sample, name)
	switch f.typ {
	case "histogram":
		return ok && (suffix == "_bucket" || suffix == "_sum" || suffix == "_count")
	case "summary":
		return ok && (suffix == "" || suffix == "_sum" || suffix == "_count")
	}
	return ok && suffix == ""
}

// readExpfmt reads a page and flattens what expfmt makes of it.
func readExpfmt(body []byte) (page, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	pg := make(page)
	for name, mf := range families {
		f := &family{typ: strings.ToLower(mf.GetType().String()), help: trimHelp(mf.GetHelp())}
		if mf.GetType() == dto.MetricType_UNTYPED {
			f.typ = string(model.MetricTypeUnknown) // textparse's word for it
		}
		pg[name] = f
		for _, m := range mf.GetMetric() {
			if err := f.addMetric(name, m); err != nil {
				return nil, err
			}
		}
	}
	return pg, nil
}

func (f *family) addMetric(name string, m *dto.Metric) error {
	var errs []error
	put := func(suffix string, value float64, bound ...string) {
		s := sample{name: name + suffix, labels: make(map[string]string), value: value}
		for _, l := range m.GetLabel() {
			s.labels[l.GetName()] = l.GetValue()
		}
		if len(s.labels) != len(m.GetLabel()) {
			errs = append(errs, fmt.Errorf("%v has a label twice", m))
		}
		if len(bound) > 0 {
			s.labels[f.boundLabel()] = bound[0]
		}
		errs = append(errs, f.add(s))
	}
	switch f.typ {
	case "counter":
		put("", m.GetCounter().GetValue())
	case "gauge":
		put("", m.GetGauge().GetValue())
	case "unknown":
		put("", m.GetUntyped().GetValue())
	case "histogram":
		h := m.GetHistogram()
		for _, b := range h.GetBucket() {
			put("_bucket", float64(b.GetCumulativeCount()), formatFloat(b.GetUpperBound()))
		}
		put("_sum", h.GetSampleSum())
		put("_count", float64(h.GetSampleCount()))
	case "summary":
		s := m.GetSummary()
		for _, q := range s.GetQuantile() {
			put("", q.GetValue(), formatFloat(q.GetQuantile()))
		}
		put("_sum", s.GetSampleSum())
		put("_count", float64(s.GetSampleCount()))
	}
	return errors.Join(errs...)
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// diff describes at most ten differences between two pages; "" if there is none. Minus zero is not
// zero.
func diff(got, want page) string {
	var d []string
	note := func(format string, args ...any) { d = append(d, fmt.Sprintf(format, args...)) }
	for name, g := range got {
		w := want[name]
		if w == nil {
			note("family %s is not expected", name)
			continue
		}
		if g.typ != w.typ || g.help != w.help {
			note("%s is a %s %q, want a %s %q", name, g.typ, g.help, w.typ, w.help)
		}
		for key, v := range g.samples {
			if expected, ok := w.samples[key]; !ok {
				note("%s = %v is not expected", key, v)
			} else if !same(v, expected) {
				note("%s = %v, want %v", key, v, expected)
			}
		}
		for key, v := range w.samples {
			if _, ok := g.samples[key]; !ok {
				note("%s = %v is missing", key, v)
			}
		}
	}
	for name := range want {
		if got[name] == nil {
			note("family %s is missing", name)
		}
	}
	slices.Sort(d)
	return strings.Join(d[:min(len(d), 10)], "\n")
}

func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}
