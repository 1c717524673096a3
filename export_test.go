package gotheus

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/gotheus/gotheus/expo"
)

// Sweep lets tests choose when series are looked at for their time to live, and when the windows of
// quantiles move on.
func Sweep(r *Registry, now time.Time) {
	r.home.AdvanceWindows(now)
	r.home.Expire(context.Background(), now)
}

// Distributions returns the series of a family of r's page by label text: what an encoder is given.
func Distributions(r *Registry, name string) map[string]expo.Distribution {
	p, _ := r.scrape(context.Background(), new(WriteOptions)) // what is known will do
	defer p.end()
	c := &capture{found: map[string]expo.Distribution{}}
	for i := range p.page.Families {
		if f := &p.page.Families[i]; f.Name == name {
			p.page.Walk(f, c, func() bool { return false })
		}
	}
	return c.found
}

type capture struct{ found map[string]expo.Distribution }

func (c *capture) Family(dst []byte, _ *expo.Family) []byte { return dst }
func (c *capture) Number(dst []byte, labels string, n *expo.Number) []byte {
	d := expo.Distribution{Start: n.Start}
	if n.Exemplar.Time != 0 {
		d.Exemplars = []expo.Exemplar{n.Exemplar}
	}
	c.found[labels] = d
	return dst
}
func (c *capture) Distribution(dst []byte, labels string, d *expo.Distribution) []byte {
	k := *d
	k.Buckets, k.Exemplars, k.Quantiles = slices.Clone(d.Buckets), slices.Clone(d.Exemplars), slices.Clone(d.Quantiles)
	if d.Native != nil {
		n := *d.Native
		n.Positive, n.Negative, n.Exemplars = slices.Clone(n.Positive), slices.Clone(n.Negative), slices.Clone(n.Exemplars)
		k.Native = &n
	}
	c.found[labels] = k
	return dst
}
func (c *capture) End(dst []byte) []byte { return dst }

// FamiliesOf is Families with a scope.
func FamiliesOf(r *Registry, ctx context.Context, s Scope) iter.Seq2[*Family, error] {
	return r.familiesOf(ctx, s)
}
