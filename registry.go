package gotheus

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/inside"
	"github.com/gotheus/gotheus/internal/leader"
	"github.com/gotheus/gotheus/internal/names"
	"github.com/gotheus/gotheus/internal/periodic"
	"github.com/gotheus/gotheus/internal/series"
)

var (
	// ErrInvalid is wrapped by errors about definitions that can never be exposed: a bad name,
	// help, label, bucket or option; and about arguments that cannot work, such as a nil
	// collector.
	ErrInvalid = series.ErrInvalid
	// ErrConflict is wrapped by errors about definitions that clash with one the registry
	// already has. Their text says what differs.
	ErrConflict = series.ErrConflict
)

// Registry holds families, collectors and the backend that their values live in. The zero value is
// ready and keeps values in the heap. A Registry must not be copied; all its methods may be called
// concurrently.
type Registry struct {
	view *Registry       // the registry that this is a view of, see Sub; nil: it is none
	opts RegistryOptions // those of a view have its prefix and labels
	home series.Home     // the families, and the backend that their series are in
	bind bindState

	scrapeMu sync.RWMutex // shared by scrapes, held by a bind: a page shows one backend
	leader   leader.Candidate

	collectorsMu sync.Mutex
	collectors   []*collector
	includes     []**Registry // pointers tell two calls of Include apart
	sampler      periodic.Timer
	sampledNew   atomic.Uint64 // counts series made by sampling, which Walk may not show yet

	self atomic.Pointer[selfMetrics] // nil: there are none, or not yet

	lockOnce   sync.Once
	lockNumber uint64 // see inLockOrder
}

// NewRegistry returns an empty registry. Registries that are bound to the same backend share one
// page: to keep metrics apart, bind each to its own backend, or to its own namespace in a store. It
// panics with an error that wraps ErrInvalid if o's prefix or labels cannot be part of any metric;
// see TryNewRegistry.
func NewRegistry(o *RegistryOptions) *Registry { return Must(TryNewRegistry(o)) }

func init() {
	inside.Home = func(r any) *series.Home { return &r.(*Registry).base().home }
}

// TryNewRegistry is like NewRegistry, but returns the error instead of panicking.
func TryNewRegistry(o *RegistryOptions) (*Registry, error) {
	r := new(Registry)
	r.home.Log.OnPanic(r.home.CountPanic)
	if o != nil {
		r.opts = *o
		r.opts.Prefix, r.opts.Labels = strings.Clone(o.Prefix), backend.CloneLabels(o.Labels)
		r.home.Prefix, r.home.Labels = r.opts.Prefix, r.opts.Labels
		r.home.Clock, r.home.NoFaults, r.home.Log.Default = o.Now, o.NoSelfMetrics, o.Logger
		if get := o.Exemplar; get != nil {
			r.home.Exemplar = func(ctx context.Context) series.Labels { return get(ctx) }
		}
	}
	if err := r.opts.check(); err != nil {
		return nil, err
	}
	return r, nil
}

// check returns an error if the prefix or the labels cannot be part of any metric.
func (o *RegistryOptions) check() error {
	if p := o.Prefix; p != "" && !backend.ValidName(p) {
		return fmt.Errorf("%w: registry prefix %q: must be UTF-8 without control characters", ErrInvalid, p)
	}
	size, longest := len(o.Prefix), ""
	for name, v := range o.Labels {
		size += len(name) + len(v)
		if longest == "" || len(v) > len(o.Labels[longest]) {
			longest = name
		}
	}
	if size > backend.MaxText/2 { // leaves the other half to each metric
		return fmt.Errorf("%w: the registry's prefix and constant labels have %d bytes together, of which %d are allowed: shorten the prefix, which has %d, or the value of label %q, which has %d",
			ErrInvalid, size, backend.MaxText/2, len(o.Prefix), backend.Clip(longest), len(o.Labels[longest]))
	}
	// le and quantile are reserved in every registry.
	for _, kind := range []backend.Kind{backend.Histogram, backend.Summary} {
		f := backend.Family{Name: "registry", Kind: kind}
		for _, name := range sortedKeys(o.Labels) {
			if err := f.CheckLabelName(name); err != nil {
				return fmt.Errorf("%w: constant label: %w", ErrInvalid, err)
			}
			if v := o.Labels[name]; !utf8.ValidString(v) {
				return fmt.Errorf("%w: constant label %q: value %q is not UTF-8", ErrInvalid, name, v)
			}
		}
	}
	return nil
}

// Now returns the time by the registry's clock, which is time.Now unless [RegistryOptions] has
// another.
func (r *Registry) Now() time.Time { return r.base().home.Now() }

// define returns the family for a definition, an existing one if they do not differ.
func define[M Instrument](r *Registry, name, help string, o OptionsFor[M], vec bool, labels []string) (*series.Family, error) {
	f, err := prepare(r, name, help, o, vec, labels)
	if err != nil {
		return nil, err
	}
	return r.enter(f)
}

// prepare checks a definition by itself.
func prepare[M Instrument](r *Registry, name, help string, o OptionsFor[M], vec bool, labels []string) (*series.Family, error) {
	def := &backend.Family{Name: r.opts.Prefix + name, Help: help}
	options := withExistingObjectives(r, def.Name, optionsFor(o))
	if o, ok := options.(interface{ invalid() error }); ok {
		if err := o.invalid(); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, def.Name, err)
		}
	}
	c := options.common()
	def.Unit, def.Stripes, def.Mode = c.unit, c.stripes, c.mode
	options.define(def, nil)
	constant, err := r.constantLabels(def.Name, c.labels, labels)
	if err != nil {
		return nil, err
	}
	open, _ := backend.SortLabels(labels)
	def.Labels, _ = backend.SortLabels(append(sortedKeys(constant), labels...))
	switch err := def.Check(); {
	case help == "":
		return nil, fmt.Errorf("%w: %s: help is missing: say what it counts or measures", ErrInvalid, def.Name)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case vec && len(labels) == 0:
		return nil, fmt.Errorf("%w: %s: a vec needs labels", ErrInvalid, def.Name)
	}
	if _, clash := names.Escaped(expo.Underscores, names.OfLabels(def)); clash != "" {
		return nil, fmt.Errorf("%w: %s: labels %q: two of them become equal, or one becomes __name__, when escaped for scrapers that accept only [a-zA-Z_][a-zA-Z0-9_]*: rename %q",
			ErrInvalid, def.Name, names.OfLabels(def), clash)
	}
	if err := c.check(def.Name, labels); err != nil {
		return nil, err
	}

	f := &series.Family{Home: &r.base().home, Def: def, Shared: r.opts.Labels, Constant: constant, Open: open, IsVec: vec}
	if ttl := cmp.Or(c.ttl, r.opts.TTL); vec && ttl > 0 {
		f.TTL = ttl
	}
	f.Observing = observingOf(def)
	f.SetMax(maxSeries(r, c, vec))
	f.SetMaxValueLength(maxValueLength(r, c))
	f.Given = givenBy(options)
	f.Prepare()
	if err := f.CheckConstant(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	series.NewTable(f, labelsOf[M], coreOf[M])
	return f, nil
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

// enter adds a family to the registry and returns it, or the existing one if they do not differ.
func (r *Registry) enter(f *series.Family) (*series.Family, error) {
	r = r.base()
	f, err := r.home.Enter(f)
	if err == nil {
		r.startEnv()
	}
	return f, err
}

const defaultMaxSeries = 10000

// maxSeries returns the limit of a family's series; negative: there is none.
func maxSeries(r *Registry, c common, vec bool) int64 {
	limit := cmp.Or(c.maxSeries, r.opts.MaxSeries)
	switch {
	case limit < 0 || !vec:
		return -1
	case limit == 0:
		return defaultMaxSeries
	}
	return int64(limit)
}

const defaultMaxValueLength = 1024

// maxValueLength returns the limit of the length of a family's label values; negative: there is
// none.
func maxValueLength(r *Registry, c common) int64 {
	return max(-1, int64(cmp.Or(c.maxValueLength, r.opts.MaxValueLength, defaultMaxValueLength)))
}

// OverflowValue is the value of all labels of the series that look-ups return once their family has
// reached its limit of series, see Vec.
const OverflowValue = series.OverflowValue

// HideFamily takes the family of that name (without the registry's prefix) off this process's pages
// and reports whether there was one. Its instruments still work; its values stay in the backend,
// and other processes still expose them. Defining the same family again brings it back, with its
// values and the help text it had; another definition of the name is allowed.
func (r *Registry) HideFamily(name string) bool {
	return r.base().home.Hide(r.opts.Prefix + name)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
