package page

import (
	"strconv"

	"github.com/gotheus/gotheus/expo"
)

// Sample is a line of a page.
type Sample struct {
	Suffix      string // of the family's name
	Labels      string // the label text of the series
	Name, Bound string // the label that tells buckets or quantiles apart; "": there is none
	Value       float64
}

// Points calls yield for each series of a family, in order of label text, until it returns false.
// One of n and d is nil; they are valid during the call.
func (p *Page) Points(f *Family, yield func(labels string, n *expo.Number, d *expo.Distribution) bool) {
	p.walk(f, &walker{yield: yield})
}

// Samples calls yield for each line of a family, in the order of the page, until it returns false.
func (p *Page) Samples(f *Family, yield func(Sample) bool) {
	p.walk(f, &walker{yield: func(labels string, n *expo.Number, d *expo.Distribution) bool {
		if d == nil {
			return yield(Sample{Labels: labels, Value: n.Value()})
		}
		bound := func(i int) string { return strconv.FormatFloat(f.Bounds[i], 'g', -1, 64) }
		switch f.Type {
		case expo.Histogram:
			for i, n := range d.Buckets {
				if !yield(Sample{"_bucket", labels, "le", bound(i), float64(n)}) {
					return false
				}
			}
			if !yield(Sample{"_bucket", labels, "le", "+Inf", float64(d.Count)}) {
				return false
			}
		case expo.Summary:
			for i, v := range d.Quantiles {
				if !yield(Sample{"", labels, "quantile", bound(i), v}) {
					return false
				}
			}
		}
		return yield(Sample{Suffix: "_sum", Labels: labels, Value: d.Sum}) &&
			yield(Sample{Suffix: "_count", Labels: labels, Value: float64(d.Count)})
	}})
}

// walk passes the series of a family to w until it has stopped.
func (p *Page) walk(f *Family, w *walker) {
	if c := f.collected; c != nil {
		for i := range c.Rows {
			if c.Rows[i].encode(nil, w, c); w.stopped {
				return
			}
		}
		return
	}
	e := f.encoder(w)
	for g, i := range p.series(f) {
		if p.encode(nil, e, g, i); w.stopped {
			return
		}
	}
}

// walker is an expo.Encoder that yields series instead of encoding them.
type walker struct {
	yield   func(labels string, n *expo.Number, d *expo.Distribution) bool
	stopped bool
}

func (w *walker) Family(dst []byte, _ *expo.Family) []byte { return dst }

func (w *walker) Number(dst []byte, labels string, n *expo.Number) []byte {
	w.stopped = w.stopped || !w.yield(labels, n, nil)
	return dst
}

func (w *walker) Distribution(dst []byte, labels string, d *expo.Distribution) []byte {
	w.stopped = w.stopped || !w.yield(labels, nil, d)
	return dst
}

func (w *walker) End(dst []byte) []byte { return dst }
