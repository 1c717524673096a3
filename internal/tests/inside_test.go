package tests_test

import (
	"context"
	"slices"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/inside"
)

// sweep deletes series that have expired at the time now, and advances the windows of quantiles.
func sweep(r *gotheus.Registry, now time.Time) {
	home := inside.Home(r)
	home.AdvanceWindows(now)
	home.Expire(context.Background(), now)
}

// distributions returns the distributions of a family of r by label text.
func distributions(r *gotheus.Registry, name string) map[string]expo.Distribution {
	found := make(map[string]expo.Distribution)
	for f := range r.Families(context.Background()) { // the state read last is enough
		if f == nil || f.Name != name {
			continue
		}
		for p := range f.Points() {
			labels := ""
			for _, l := range p.Labels {
				labels = backend.AppendLabel(labels, l.Name, l.Value)
			}
			found[labels] = clone(p)
		}
	}
	return found
}

func clone(p gotheus.Point) expo.Distribution {
	if n := p.Number; n != nil {
		d := expo.Distribution{Start: n.Start}
		if n.Exemplar.Time != 0 {
			d.Exemplars = []expo.Exemplar{n.Exemplar}
		}
		return d
	}
	d := *p.Distribution
	d.Buckets, d.Exemplars, d.Quantiles = slices.Clone(d.Buckets), slices.Clone(d.Exemplars), slices.Clone(d.Quantiles)
	if d.Native != nil {
		n := *d.Native
		n.Positive, n.Negative, n.Exemplars = slices.Clone(n.Positive), slices.Clone(n.Negative), slices.Clone(n.Exemplars)
		d.Native = &n
	}
	return d
}
