package gotheus

import (
	"context"
	"iter"
	"strconv"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
)

// Family is a family of a page, as Families yields it: what encoders call one, its name, help, type
// and so on, and its series.
type Family struct {
	expo.Family
	page *page.Page
	of   *page.Family
}

// Point is a series of a page with all that is known of it. A state set has a series for each
// state.
type Point struct {
	Labels       []Label
	Number       *expo.Number       // nil for histograms and summaries
	Distribution *expo.Distribution // nil for others
}

// Sample is a line of a page: of a histogram, for instance, one for each bucket, the sum and the
// count.
type Sample struct {
	Name   string // the family's, with _bucket, _sum or _count where that applies
	Labels []Label
	Value  float64
}

// Label is a label of a sample.
type Label struct{ Name, Value string }

// Samples ranges over the family's samples in the order of the page. It must be used while the
// family is the current one.
func (f *Family) Samples() iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		f.walk(&walker{f: &f.of.Family, yield: yield})
	}
}

// Points ranges over the family's series in the order of the page, with times, start times,
// exemplars and exponential buckets, and integers to the last digit. It must be used while the
// family is the current one, and what a point has pointers to while the point is.
func (f *Family) Points() iter.Seq[Point] {
	return func(yield func(Point) bool) {
		f.walk(&walker{f: &f.of.Family, points: yield})
	}
}

// Families ranges over what Write would write: enough for an encoder or exporter of one's own. If
// the backend cannot say what other processes did, what is known is yielded (nothing, where that
// may be behind what others have shown, see [ErrStale]), and at last a nil family with the error. A
// bind of the registry waits until the range is over.
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
