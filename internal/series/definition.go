package series

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Given says which properties a definition sets. The others take the defaults or, if the family
// exists already, its settings.
type Given struct {
	TTL, MaxSeries, MaxValueLength, Buckets bool

	Native      *GivenNative // nil: exponential buckets are not requested
	Sketch      *GivenSketch // nil: quantiles are not requested
	Labels      bool         // constant labels besides those of the registry
	DefaultMode bool         // the mode is a default, though not the zero one
}

// GivenNative says which properties of exponential buckets a definition sets.
type GivenNative struct{ Factor, ZeroThreshold, MaxBuckets bool }

// GivenSketch says which properties of quantiles a definition sets, besides which they are.
type GivenSketch struct{ RelativeError, Slots, MaxAge bool }

var givenAll = Given{
	TTL: true, MaxSeries: true, MaxValueLength: true, Buckets: true,
	Native: &GivenNative{true, true, true}, Sketch: &GivenSketch{true, true, true},
}

// match returns the family that f is to be, among families of f's name: the one with f's constant
// labels, whether these come from a view or from options, or, if f sets none of its own, the only
// one of its view. It is nil if there is none. If f cannot be defined alongside them, wrong says
// why, and what to do about it.
func (f *Family) match(families []*Family) (old *Family, wrong string) {
	several := false
	for _, other := range families {
		switch {
		case other == f:
			return f, ""
		case maps.Equal(other.Constant, f.Constant):
			return other, f.differs(other, f.Given)
		case !f.Given.Labels && maps.Equal(other.Shared, f.Shared):
			old, several = other, old != nil
		}
	}
	switch {
	case several:
		return nil, "it has several sets of constant labels: set Labels to one of them"
	case old != nil:
		return old, f.differs(old, f.Given)
	case len(families) == 0:
		return nil, ""
	}
	return nil, f.clashes(families[0])
}

// clashes says what keeps f from being defined alongside a family with the same name and other
// values of constant labels: they must not differ otherwise, since they are one family on a page.
func (f *Family) clashes(other *Family) string {
	theirs, ours := slices.Sorted(maps.Keys(other.Constant)), slices.Sorted(maps.Keys(f.Constant))
	if !slices.Equal(theirs, ours) && f.Def.Kind == other.Def.Kind && f.Source == other.Source {
		return fmt.Sprintf("it already has the constant labels %q, not %q: use the same, or choose another name", theirs, ours)
	}
	return f.differs(other, givenAll)
}

// differs says how f differs from an earlier definition of its name; "" if it does not.
func (f *Family) differs(old *Family, g Given) string {
	a, b := old.Def, f.Def
	another := func(what string, has, wanted any) string {
		return fmt.Sprintf("it already has %s %v, not %v: use the same, or choose another name", what, has, wanted)
	}
	option := func(what string, has, wanted any) string {
		return fmt.Sprintf("it already has %s %v, not %v: use the same, or leave it out to take the existing one", what, has, wanted)
	}
	all := g == givenAll
	if all {
		option = another
	}
	switch {
	case a.Kind != b.Kind:
		return fmt.Sprintf("it is already of type %v, not %v: choose another name", a.Kind, b.Kind)
	case old.Source != f.Source:
		return fmt.Sprintf("its values already come from %s, not from %s: choose another name", cmp.Or(old.Source, "code"), cmp.Or(f.Source, "code"))
	case !slices.Equal(old.Open, f.Open):
		return another("labels", quoted(old.Open), quoted(f.Open))
	case g.Buckets && !slices.Equal(a.Buckets, b.Buckets):
		return option("buckets", a.Buckets, b.Buckets)
	case g.Native != nil && !g.Native.agree(a.Native, b.Native):
		return option("exponential buckets", describeNative(a.Native), describeNative(b.Native))
	case g.Sketch != nil && !g.Sketch.agree(a.Sketch, b.Sketch):
		return option("quantiles", describeSketch(a.Sketch), describeSketch(b.Sketch))
	case (all || b.Unit != "") && a.Unit != b.Unit:
		return option("unit", fmt.Sprintf("%q", a.Unit), fmt.Sprintf("%q", b.Unit))
	case (all || b.Stripes != 0) && a.Stripes != b.Stripes:
		return option("number of stripes", a.Stripes, b.Stripes)
	case (all || b.Mode != backend.Shared && !g.DefaultMode) && a.Mode != b.Mode:
		return option("mode", a.Mode, b.Mode)
	case !slices.Equal(a.States, b.States):
		return another("states", quoted(a.States), quoted(b.States))
	case g.TTL && old.TTL != f.TTL:
		return option("a TTL of", ttlText(old.TTL), ttlText(f.TTL))
	case a.Help != b.Help:
		return another("help", fmt.Sprintf("%q", a.Help), fmt.Sprintf("%q", b.Help))
	case g.MaxSeries && old.Max() != f.Max():
		return option("MaxSeries", old.Max(), f.Max())
	case g.MaxValueLength && old.MaxValueLength() != f.MaxValueLength():
		return option("MaxValueLength", old.MaxValueLength(), f.MaxValueLength())
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

// agree reports whether an existing family's buckets, old, are as requested. asked is what a new
// family would have.
func (g *GivenNative) agree(old, asked *backend.Native) bool {
	if old == nil || asked == nil {
		return old == asked
	}
	return (!g.Factor || old.Schema == asked.Schema) &&
		(!g.ZeroThreshold || old.ZeroThreshold == asked.ZeroThreshold) &&
		(!g.MaxBuckets || old.MaxBuckets == asked.MaxBuckets)
}

func (g *GivenSketch) agree(old, asked *backend.Sketch) bool {
	if old == nil || asked == nil {
		return old == asked
	}
	return slices.Equal(old.Quantiles, asked.Quantiles) &&
		(!g.RelativeError || old.PerDoubling == asked.PerDoubling) &&
		(!g.Slots || old.Slots == asked.Slots) && (!g.MaxAge || old.MaxAge == asked.MaxAge)
}

func describeNative(n *backend.Native) string {
	if n == nil {
		return "none"
	}
	factor := math.Exp2(math.Exp2(-float64(n.Schema)))
	return fmt.Sprintf("{Factor: %.5g, ZeroThreshold: %g, MaxBuckets: %d}", factor, n.ZeroThreshold, n.MaxBuckets)
}

func describeSketch(s *backend.Sketch) string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%v over %v in %d slots, %d buckets per doubling", s.Quantiles, s.MaxAge, s.Slots, s.PerDoubling)
}

// CheckName returns an error about a name, without the registry's prefix, that users must not take.
func CheckName(name string) error {
	if strings.HasPrefix(name, OwnPrefix) {
		return fmt.Errorf("name %q: %s is reserved for the library's own metrics", name, OwnPrefix)
	}
	return nil
}
