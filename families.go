package gotheus

import (
	"context"
	"iter"
	"strconv"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
)

// Family is a family on a page, as Families yields it: name, help, type and so on, and its series.
type Family struct {
	expo.Family
	page *page.Page
	of   *page.Family
}

// Point is a series on a page with everything known about it. A state set has a series for each
// state.
type Point struct {
	Labels       []Label
	Number       *expo.Number       // nil for histograms and summaries
	Distribution *expo.Distribution // nil for other types
}

// Sample is a line of a page: a histogram, for instance, has one for each bucket, the sum and the
// count.
type Sample struct {
	Name   string // the family's, with _bucket, _sum or _count appended where it applies
	Labels []Label
	Value  float64
}

// Label is the name and value of a label.
type Label struct{ Name, Value string }

// Samples ranges over the family's samples in the order of the page. It may be used only while the
// range over Families is at this family.
func (f *Family) Samples() iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		f.walk(&walker{f: &f.of.Family, yield: yield})
	}
}

// Points ranges over the family's series in the order of the page, with timestamps, start times,
// exemplars, exponential buckets and exact integers. It may be used only while the range over
// Families is at this family, and what a point's pointers refer to only until the next point.
func (f *Family) Points() iter.Seq[Point] {
	return func(yield func(Point) bool) {
		f.walk(&walker{f: &f.of.Family, points: yield})
	}
}

// Families ranges over what Write would write, for encoders or exporters of your own. If the
// backend cannot be read, it yields what is known (nothing, where that may be older than what other
// processes have shown, see [ErrStale]), and finally a nil family with the error. A bind of the
// registry waits until the range is over.
func (r *Registry) Families(ctx context.Context) iter.Seq2[*Family, error] {
	return r.FamiliesIn(ctx, ScopeAll)
}

// FamiliesIn is Families in another scope, for exporters of which there is one in each process.
func (r *Registry) FamiliesIn(ctx context.Context, scope Scope) iter.Seq2[*Family, error] {
	return func(yield func(*Family, error) bool) {
		s, err := r.scrape(ctx, &WriteOptions{Format: expo.Format{Syntax: expo.Text1, Escaping: expo.AllowUTF8}, Scope: scope})
		defer s.end()
		for i := range s.page.Families {
			of := &s.page.Families[i]
			f := &Family{Family: of.Family, page: s.page, of: of}
			if !yield(f, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func (f *Family) walk(w *walker) {
	f.page.Walk(f.of, w, func() bool { return w.stopped })
}

// walker is an expo.Encoder that yields samples, or points.
type walker struct {
	f       *expo.Family
	yield   func(Sample) bool
	points  func(Point) bool
	stopped bool
}

func (w *walker) point(labels string, n *expo.Number, d *expo.Distribution) {
	if !w.stopped {
		w.stopped = !w.points(Point{appendLabels(nil, labels), n, d})
	}
}

func appendLabels(list []Label, text string) []Label {
	for name, v := range backend.ParseLabels(text) {
		list = append(list, Label{name, v})
	}
	return list
}

func (w *walker) put(suffix, labels string, value float64, extra ...Label) {
	if w.stopped {
		return
	}
	s := Sample{Name: w.f.Name + suffix, Value: value, Labels: append(appendLabels(nil, labels), extra...)}
	w.stopped = !w.yield(s)
}

func (w *walker) Family(dst []byte, _ *expo.Family) []byte { return dst }

func (w *walker) Number(dst []byte, labels string, n *expo.Number) []byte {
	if w.points != nil {
		w.point(labels, n, nil)
	} else {
		w.put("", labels, n.Value())
	}
	return dst
}

func (w *walker) Distribution(dst []byte, labels string, d *expo.Distribution) []byte {
	if w.points != nil {
		w.point(labels, nil, d)
		return dst
	}
	bound := func(i int) string { return strconv.FormatFloat(w.f.Bounds[i], 'g', -1, 64) }
	switch w.f.Type {
	case expo.Histogram:
		for i, n := range d.Buckets {
			w.put("_bucket", labels, float64(n), Label{"le", bound(i)})
		}
		w.put("_bucket", labels, float64(d.Count), Label{"le", "+Inf"})
	case expo.Summary:
		for i, v := range d.Quantiles {
			w.put("", labels, v, Label{"quantile", bound(i)})
		}
	}
	w.put("_sum", labels, d.Sum)
	w.put("_count", labels, float64(d.Count))
	return dst
}

func (w *walker) End(dst []byte) []byte { return dst }
