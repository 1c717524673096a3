package gotheus

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/page"
)

// Family is a family on a page, as Families yields it: name, help, type and so on, and its series.
// Its strings and bounds, and the labels of samples and points, belong to the program.
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
		f.page.Samples(f.of, func(s page.Sample) bool {
			labels := parseLabels(s.Labels)
			if s.Name != "" {
				labels = append(labels, Label{s.Name, s.Bound})
			}
			return yield(Sample{f.of.Name + s.Suffix, labels, s.Value})
		})
	}
}

// Points ranges over the family's series in the order of the page, with timestamps, start times,
// exemplars, exponential buckets and exact integers. It may be used only while the range over
// Families is at this family, and what a point's pointers refer to only until the next point.
func (f *Family) Points() iter.Seq[Point] {
	return func(yield func(Point) bool) {
		f.page.Points(f.of, func(labels string, n *expo.Number, d *expo.Distribution) bool {
			return yield(Point{parseLabels(labels), n, d})
		})
	}
}

// Families ranges over what Write would write, for encoders or exporters of your own. If the
// backend cannot be read, it yields what is known (nothing, where that may be older than what other
// processes have shown, see [ErrStale]), and finally a nil family with the error. A bind of the
// registry waits until the range is over.
func (r *Registry) Families(ctx context.Context) iter.Seq2[*Family, error] {
	return r.FamiliesIn(ctx, ScopeAll)
}

// FamiliesIn is Families in another scope, for exporters that run in every process.
func (r *Registry) FamiliesIn(ctx context.Context, scope Scope) iter.Seq2[*Family, error] {
	return func(yield func(*Family, error) bool) {
		s, err := r.scrape(ctx, &WriteOptions{Format: expo.Format{Syntax: expo.Text1, Escaping: expo.AllowUTF8}, Scope: scope})
		defer s.end()
		for i := range s.page.Families {
			of := &s.page.Families[i]
			f := &Family{Family: of.Family, page: s.page, of: of}
			f.Bounds = slices.Clone(f.Bounds) // which the program may sort or change
			if !yield(f, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// parseLabels returns the labels of a label text. They are in a copy of it: it may be in one piece
// of memory with those of all series of the family, which a program that keeps a label would keep.
func parseLabels(text string) []Label {
	if text == "" {
		return nil
	}
	list := make([]Label, 0, strings.Count(text, `="`)+1) // one more for those of Samples
	for name, v := range backend.ParseLabels(strings.Clone(text)) {
		list = append(list, Label{name, v})
	}
	return list
}
