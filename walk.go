package gotheus

import (
	"context"
	"iter"
	"strconv"

	"github.com/gotheus/gotheus/backend"
	"github.com/gotheus/gotheus/expo"
)

// Family is a family of a page, as Families yields it.
type Family struct {
	Name, Help, Unit string
	Type             expo.Type
	samples          iter.Seq[Sample]
}

// Sample is a line of a page: of a histogram, for instance, one for each bucket, the sum and the count.
type Sample struct {
	Name   string // the family's, with _bucket, _sum or _count where that applies
	Labels []Label
	Value  float64
}

// Label is a label of a sample.
type Label struct{ Name, Value string }

// Samples ranges over the family's samples in the order of the page. It must be used while the family is
// the current one.
func (f *Family) Samples() iter.Seq[Sample] { return f.samples }

// Families ranges over what Write would write: enough for an encoder or exporter of one's own. If the
// backend cannot say what other processes did, what is known is yielded, and at last a nil family with
// the error. A bind of the registry waits until the range is over.
func (r *Registry) Families(ctx context.Context) iter.Seq2[*Family, error] {
	return func(yield func(*Family, error) bool) {
		p := pages.Get().(*page)
		defer p.release()
		release, err := r.gather(ctx, p)
		defer release()
		for i := range p.families {
			pf := &p.families[i]
			f := &Family{Name: pf.Name, Help: pf.Help, Unit: pf.Unit, Type: pf.Type}
			f.samples = func(yield func(Sample) bool) { p.samples(pf, yield) }
			if !yield(f, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// samples yields what an encoder would encode, by being one.
func (p *page) samples(f *pageFamily, yield func(Sample) bool) {
	w := &walker{f: &f.Family, yield: yield}
	if f.collected != nil {
		for i := range f.collected.rows {
			if f.collected.rows[i].encode(nil, w, f.Type); w.stopped {
				return
			}
		}
		return
	}
	for s := range p.series(f) {
		if p.encode(nil, w, f.groups[0].Family, s); w.stopped {
			return
		}
	}
}

// walker is an expo.Encoder that yields samples.
type walker struct {
	f       *expo.Family
	yield   func(Sample) bool
	stopped bool
}

func (w *walker) put(suffix, labels string, value float64, extra ...Label) {
	if w.stopped {
		return
	}
	s := Sample{Name: w.f.Name + suffix, Value: value}
	for name, v := range backend.ParseLabels(labels) {
		s.Labels = append(s.Labels, Label{name, v})
	}
	s.Labels = append(s.Labels, extra...)
	w.stopped = !w.yield(s)
}

func (w *walker) Family(dst []byte, _ *expo.Family) []byte { return dst }

func (w *walker) Number(dst []byte, labels string, n expo.Number) []byte {
	w.put("", labels, n.Value())
	return dst
}

func (w *walker) Distribution(dst []byte, labels string, d *expo.Distribution) []byte {
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
