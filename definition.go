package gotheus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
)

// Comparing a definition with an existing family of the same name.

// given says which properties a definition sets. The others take the defaults or, if the family
// exists already, its settings.
type given struct {
	ttl, maxSeries, buckets bool
	native                  *NativeOptions  // nil: not set
	summary                 *SummaryOptions // nil: Objectives are not set
	labels                  bool
	defaultMode             bool // the mode is a default, though not the zero one
}

func givenBy(options interface{ common() common }) given {
	c := options.common()
	g := given{ttl: c.ttl != 0, maxSeries: c.maxSeries != 0, labels: len(c.labels) > 0}
	switch o := options.(type) {
	case *HistogramOptions:
		if o != nil {
			g.buckets, g.native = o.Buckets != nil, o.Native
		}
	case *SummaryOptions:
		if o != nil && o.Objectives != nil {
			g.summary = o
		}
	}
	return g
}

// apply records in f what its definition sets.
func (g given) apply(f *series.Family) {
	f.GivesTTL, f.GivesMax = g.ttl, g.maxSeries
	f.Differs = func(old *series.Family) string { return differs(old, f, g) }
}

// differs says how a second definition of a name differs from the first, and what to do about it;
// "" if it does not differ.
func differs(old, f *series.Family, g given) string {
	a, b := old.Def, f.Def
	another := func(what string, has, wanted any) string {
		return fmt.Sprintf("it already has %s %v, not %v: use the same, or choose another name", what, has, wanted)
	}
	option := func(what string, has, wanted any) string {
		return fmt.Sprintf("it already has %s %v, not %v: use the same, or leave it out to take the existing one", what, has, wanted)
	}
	switch {
	case a.Kind != b.Kind:
		return fmt.Sprintf("it is already of type %v, not %v: choose another name", a.Kind, b.Kind)
	case old.Source != f.Source:
		return fmt.Sprintf("its values already come from %s, not from %s: choose another name", cmp.Or(old.Source, "code"), cmp.Or(f.Source, "code"))
	case !maps.Equal(old.Shared, f.Shared):
		return another("constant labels of a registry or a view", old.Shared, f.Shared)
	case !slices.Equal(old.Open, f.Open):
		return another("labels", quoted(old.Open), quoted(f.Open))
	case g.labels && !maps.Equal(old.Constant, f.Constant):
		return option("constant labels", old.Constant, f.Constant)
	case g.buckets && !slices.Equal(a.Buckets, b.Buckets):
		return option("buckets", a.Buckets, b.Buckets)
	case g.native != nil && !g.native.agrees(a.Native, b.Native):
		return option("exponential buckets", describeNative(a.Native), describeNative(b.Native))
	case g.summary != nil && !g.summary.agrees(a.Sketch, b.Sketch):
		return option("quantiles", describeSketch(a.Sketch), describeSketch(b.Sketch))
	case b.Unit != "" && a.Unit != b.Unit:
		return option("unit", fmt.Sprintf("%q", a.Unit), fmt.Sprintf("%q", b.Unit))
	case b.Stripes != 0 && a.Stripes != b.Stripes:
		return option("number of stripes", a.Stripes, b.Stripes)
	case b.Mode != backend.Shared && !g.defaultMode && a.Mode != b.Mode:
		return option("mode", a.Mode, b.Mode)
	case !slices.Equal(a.States, b.States):
		return another("states", quoted(a.States), quoted(b.States))
	case g.ttl && old.TTL != f.TTL:
		return option("a TTL of", ttlText(old.TTL), ttlText(f.TTL))
	case a.Help != b.Help:
		return another("help", fmt.Sprintf("%q", a.Help), fmt.Sprintf("%q", b.Help))
	case g.maxSeries && old.Max() != f.Max():
		return option("MaxSeries", old.Max(), f.Max())
	}
	return ""
}

func quoted(list []string) string { return fmt.Sprintf("%q", list) }

func ttlText(ttl time.Duration) any {
	if ttl == 0 {
		return "none"
	}
	return ttl
}

// agrees reports whether an existing family's buckets, old, are as n asks for. asked is what a new
// family would have.
func (n *NativeOptions) agrees(old, asked *backend.Native) bool {
	return old != nil && (n.Factor == 0 || old.Schema == asked.Schema) &&
		(n.ZeroThreshold == 0 || old.ZeroThreshold == asked.ZeroThreshold) &&
		(n.MaxBuckets == 0 || old.MaxBuckets == asked.MaxBuckets)
}

// agrees reports whether a family with old has what o asks for, which is asked if there is no
// family.
func (o *SummaryOptions) agrees(old, asked *backend.Sketch) bool {
	if old == nil || asked == nil {
		return old == asked
	}
	return slices.Equal(old.Quantiles, asked.Quantiles) &&
		(o.RelativeError == 0 || old.PerDoubling == asked.PerDoubling) &&
		(o.Slots == 0 || old.Slots == asked.Slots) && (o.MaxAge == 0 || old.MaxAge == asked.MaxAge)
}

func describeNative(n *backend.Native) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprintf("{Factor: %.5g, ZeroThreshold: %g, MaxBuckets: %d}", SchemaFactor(int(n.Schema)), n.ZeroThreshold, n.MaxBuckets)
}

func describeSketch(s *backend.Sketch) string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%v over %v in %d slots, %d buckets per doubling", s.Quantiles, s.MaxAge, s.Slots, s.PerDoubling)
}

// constantLabels returns the registry's constant labels together with those of a metric that also
// has the open labels.
func (r *Registry) constantLabels(name string, metricLabels Labels, labels []string) (Labels, error) {
	if len(metricLabels) == 0 {
		return r.opts.Labels, nil
	}
	all := make(Labels, len(r.opts.Labels)+len(metricLabels))
	maps.Copy(all, r.opts.Labels)
	for _, l := range sortedKeys(metricLabels) {
		switch v, taken := r.opts.Labels[l]; {
		case taken:
			return nil, fmt.Errorf("%w: %s: Labels: %q is already a constant label of the registry, with the value %q", ErrInvalid, name, l, v)
		case slices.Contains(labels, l):
			return nil, fmt.Errorf("%w: %s: Labels: %q is one of its labels %q and cannot also be constant", ErrInvalid, name, l, labels)
		case !utf8.ValidString(metricLabels[l]):
			return nil, fmt.Errorf("%w: %s: Labels: value %q of label %q is not UTF-8", ErrInvalid, name, metricLabels[l], l)
		}
		all[l] = metricLabels[l]
	}
	return all, nil
}

// check returns an error that wraps ErrInvalid if c does not fit an instrument with these labels.
func (c common) check(name string, labels []string) error {
	for _, l := range sortedKeys(c.defaults) {
		switch {
		case !slices.Contains(labels, l):
			return fmt.Errorf("%w: %s: Defaults: %q is not one of its labels %q", ErrInvalid, name, l, labels)
		case !utf8.ValidString(c.defaults[l]):
			return fmt.Errorf("%w: %s: Defaults: value %q of label %q is not UTF-8", ErrInvalid, name, c.defaults[l], l)
		}
	}
	for _, l := range sortedKeys(c.normalize) {
		switch {
		case !slices.Contains(labels, l):
			return fmt.Errorf("%w: %s: Normalize: %q is not one of its labels %q", ErrInvalid, name, l, labels)
		case c.normalize[l] == nil:
			return fmt.Errorf("%w: %s: Normalize: the function for label %q is nil", ErrInvalid, name, l)
		}
	}
	return nil
}
