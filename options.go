package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/series"
	"github.com/gotheus/gotheus/internal/word"
)

// Labels are label names with their values.
type Labels map[string]string

// RegistryOptions are the options of a registry. The zero value is ready to use.
type RegistryOptions struct {
	Prefix        string       // prepended to the name of every family, also of collectors
	Labels        Labels       // constant labels of every series, also of collectors
	Logger        *slog.Logger // for the library's messages; nil: slog.Default()
	NoSelfMetrics bool         // leaves out the gotheus_* families
	MaxSeries     int          // the default of CounterOptions.MaxSeries; 0: 10000
	// MaxValueLength is the default of CounterOptions.MaxValueLength; 0: 1024 bytes.
	MaxValueLength int
	// TTL is the default of CounterOptions.TTL; 0: series stay for ever.
	TTL time.Duration

	// SampleInterval is how often metric functions and process collectors are called where
	// processes share a backend, so that the pages of other processes are up to date; 0: 5 s.
	SampleInterval time.Duration
	// Exemplar returns the labels of the exemplar for an update in a context, such as its trace
	// ID; no labels: no exemplar. It is called by Counter.AddContext and
	// Histogram.ObserveContext, concurrently. Nil: there are no such exemplars. If it panics,
	// the update counts, without an exemplar.
	Exemplar func(context.Context) Labels

	// Now is the clock of ObserveSince, SetSince, AddSince, SetToCurrentTime, Registry.Now and
	// times to live; it is called concurrently. Nil: time.Now. With another clock, as in a
	// test, start times must come from Registry.Now. If it panics, durations are 0, and
	// time.Now is used for the rest.
	Now func() time.Time
}

// Mode says how a page combines the values of a gauge in several processes, see [ModeShared] and
// the others.
type Mode = backend.Mode

// CounterOptions are the options of a counter. The zero value and nil stand for the defaults.
//
// If the family exists already, an option that is zero, here and in the options of all other
// metrics, takes the existing setting, so that defining it again without options returns it. A
// setting that differs from the existing one is a conflict.
type CounterOptions struct {
	// Unit is the base unit, such as "seconds" or "bytes". If set, the name must end in it
	// (before _total), as OpenMetrics requires.
	Unit string
	// TTL is the time to live: series that no process has updated for that long are deleted.
	// One that is updated again comes back from zero. The check runs eight times per TTL, so a
	// series may stay an eighth longer. 0: the registry's; negative: series stay for ever. A
	// metric without labels always stays.
	TTL time.Duration

	// Defaults are values for labels that look-ups leave out: With no longer takes these
	// labels. Defaults belong to the Vec, not to the family: two Vecs of a family may have
	// different ones.
	Defaults Labels

	// Normalize has a function for each label, by name, that every value goes through before it
	// is used: those passed to look-ups, Partial and Declare, and defaults. OneOf and
	// strings.ToLower are examples. The functions are called on each look-up, concurrently.
	// They must be fast and always return the same for the same value. If one panics, the value
	// is "other". Like Defaults, they belong to the Vec.
	Normalize map[string]func(string) string

	// MaxSeries limits how many series look-ups can create in the family, those of other
	// processes and from before a restart included; see Vec for what happens beyond that. A
	// label set counts once, and once more for each KiB of its text. 0:
	// RegistryOptions.MaxSeries; negative: no limit. It belongs to the family: defining it
	// again with another limit is a conflict. It has no effect without labels.
	MaxSeries int

	// MaxValueLength limits the length of label values in look-ups, in bytes, since clients may
	// send values of any length: a look-up with a longer one returns the overflow series, see
	// Vec. Values are measured as they come from Normalize. One in Defaults or Declare must not
	// be longer. 0: RegistryOptions.MaxValueLength; negative: no limit but that of a label
	// set's text, 64 KiB. It belongs to the family, as MaxSeries does, and to this process:
	// pages show longer values of others.
	MaxValueLength int

	// Stripes keeps that many copies of a series' value, from 2 to 64, on separate cache lines,
	// so that goroutines and processes that update it all the time do not slow each other down;
	// pages show the sum. The number of processors that update the series is a good choice. It
	// multiplies the memory, and makes an update without contention a few nanoseconds slower.
	// All processes must use the same number: families that differ in it are different ones.
	// Histograms can have stripes, too, unless they have exponential buckets.
	Stripes int

	// Labels are constant labels of all series of this metric, in addition to the registry's,
	// such as the name of the pool that it is about. Metrics of one name that differ in the
	// values of these labels exist side by side; everything else about them must be the same.
	// Neither the registry nor the metric may have another label of the same name.
	Labels Labels
}

// GaugeOptions are the options of a gauge. The zero value and nil stand for the defaults. See
// [CounterOptions] for the options that all metrics have.
type GaugeOptions struct {
	Unit           string                         // a suffix of the name, such as "bytes"
	TTL            time.Duration                  // see CounterOptions; negative: never
	Defaults       Labels                         // values of labels that With does not take
	Normalize      map[string]func(string) string // functions for values, by label
	MaxSeries      int                            // from look-ups; negative: no limit
	MaxValueLength int                            // see CounterOptions; negative: no limit
	Mode           Mode                           // with several processes; zero: ModeShared
	Labels         Labels                         // constant ones, besides the registry's
}

// HistogramOptions are the options of a histogram. The zero value and nil stand for the defaults.
// See [CounterOptions] for the options that all metrics have.
type HistogramOptions struct {
	Unit           string                         // a suffix of the name, such as "seconds"
	TTL            time.Duration                  // see CounterOptions; negative: never
	Defaults       Labels                         // values of labels that With does not take
	Normalize      map[string]func(string) string // functions for values, by label
	MaxSeries      int                            // from look-ups; negative: no limit
	MaxValueLength int                            // see CounterOptions; negative: no limit
	Stripes        int                            // see CounterOptions; not with Native
	Labels         Labels                         // constant ones, besides the registry's

	// Buckets are the inclusive upper bounds, in ascending order. The +Inf bucket always exists
	// and must not be listed. Nil means DefaultBuckets, or no classic buckets if Native is set;
	// an empty slice means the +Inf bucket alone.
	Buckets []float64
	// Native gives the histogram exponential buckets: alone, or in addition to Buckets if these
	// are set, too.
	Native *NativeOptions
}

// SummaryOptions are the options of a summary. The zero value and nil stand for a count and a sum
// without quantiles. See [CounterOptions] for the options that all metrics have.
type SummaryOptions struct {
	Unit           string                         // a suffix of the name, such as "seconds"
	TTL            time.Duration                  // see CounterOptions; negative: never
	Defaults       Labels                         // values of labels that With does not take
	Normalize      map[string]func(string) string // functions for values, by label
	MaxSeries      int                            // from look-ups; negative: no limit
	MaxValueLength int                            // see CounterOptions; negative: no limit
	Labels         Labels                         // constant ones, besides the registry's

	// Objectives are the quantiles to show, in ascending order and from 0 to 1, such as .5, .9
	// and .99. They are computed from the recent observations, see MaxAge, of all processes
	// that share the summary; if there are none, they are NaN. The quantile q of n observations
	// is the one with rank q·n, rounded up, in ascending order.
	Objectives []float64
	// RelativeError is how far a quantile may be from the exact one, from 0.005 to 0.5; 0:
	// 0.01, that is 1 %. It holds unless the observations of a series spread over too many
	// orders of magnitude, see docs/distributions.md in the repository.
	RelativeError float64
	// MaxAge is how long an observation counts for the quantiles; 0: 10 minutes. Slots is the
	// number of parts that MaxAge is divided into; 0: 5. Observations are forgotten one part at
	// a time, so with these defaults the quantiles cover the last 8 to 10 minutes.
	MaxAge time.Duration
	Slots  int
}

// StateSetOptions are the options of a state set. The zero value and nil stand for the defaults.
// See [CounterOptions] for the options that all metrics have. The mode is ModeShared (zero), where
// all processes share one set of states, or ModePerProcess, where each has its own.
type StateSetOptions struct {
	TTL            time.Duration                  // see CounterOptions; negative: never
	Defaults       Labels                         // values of labels that With does not take
	Normalize      map[string]func(string) string // functions for values, by label
	MaxSeries      int                            // from look-ups; negative: no limit
	MaxValueLength int                            // see CounterOptions; negative: no limit
	Mode           Mode                           // ModeShared or ModePerProcess
	Labels         Labels                         // constant ones, besides the registry's
}

// UntypedOptions are the options of a metric of unknown type. The zero value and nil stand for the
// defaults.
type UntypedOptions struct {
	Unit   string // a suffix of the name, such as "celsius"
	Labels Labels // constant ones, besides the registry's
}

// Instrument lists the types that a [Vec] can hold.
type Instrument interface {
	Counter | Gauge | Histogram | Summary | StateSet
}

// OptionsFor ties each instrument to its options, *CounterOptions to Counter and so on, so that
// buckets on a counter do not compile. Only these types implement it. Nil stands for the default
// options.
type OptionsFor[M Instrument] interface {
	define(f *backend.Family, _ *M) // sets the options that are in the schema
	common() common
}

// common has the options that all or most kinds of metrics share.
type common struct {
	unit           string
	ttl            time.Duration
	defaults       Labels
	normalize      map[string]func(string) string
	maxSeries      int
	maxValueLength int
	stripes        int
	mode           Mode
	labels         Labels
}

// optionsFor turns a nil interface into a nil pointer to M's options.
func optionsFor[M Instrument](o OptionsFor[M]) OptionsFor[M] {
	if o != nil {
		return o
	}
	var none any
	switch any((*M)(nil)).(type) {
	case *Counter:
		none = (*CounterOptions)(nil)
	case *Gauge:
		none = (*GaugeOptions)(nil)
	case *Histogram:
		none = (*HistogramOptions)(nil)
	case *Summary:
		none = (*SummaryOptions)(nil)
	}
	return none.(OptionsFor[M])
}

func (o *CounterOptions) define(f *backend.Family, _ *Counter) { f.Kind = backend.Counter }

func (o *CounterOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries, maxValueLength: o.MaxValueLength,
		stripes: o.Stripes, labels: o.Labels}
}

func (o *GaugeOptions) define(f *backend.Family, _ *Gauge) { f.Kind = backend.Gauge }

func (o *GaugeOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries, maxValueLength: o.MaxValueLength,
		mode: o.Mode, labels: o.Labels}
}

// untypedOptions make a metric a gauge in the program, and untyped on pages.
type untypedOptions struct{ o *UntypedOptions }

func (u untypedOptions) define(f *backend.Family, _ *Gauge) { f.Kind = backend.Untyped }

func (u untypedOptions) common() common {
	c := common{mode: ModePerProcess}
	if u.o != nil {
		c.unit, c.labels = u.o.Unit, u.o.Labels
	}
	return c
}

func (o *HistogramOptions) define(f *backend.Family, _ *Histogram) {
	f.Kind = backend.Histogram
	f.Buckets = DefaultBuckets()
	if o == nil {
		return
	}
	if o.Native != nil {
		f.Native, f.Buckets = o.Native.define(), nil
	}
	if o.Buckets != nil && (len(o.Buckets) > 0 || o.Native == nil) {
		f.Buckets = append([]float64{}, o.Buckets...)
		for i := range f.Buckets {
			f.Buckets[i] += 0 // turns -0 into 0, which is the same bound
		}
	}
}

func (o *HistogramOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries, maxValueLength: o.MaxValueLength,
		stripes: o.Stripes, labels: o.Labels}
}

func (o *SummaryOptions) define(f *backend.Family, _ *Summary) {
	f.Kind = backend.Summary
	if o == nil || len(o.Objectives) == 0 {
		return
	}
	relative := cmp.Or(o.RelativeError, .01)
	f.Sketch = &backend.Sketch{
		Quantiles:   slices.Clone(o.Objectives),
		PerDoubling: uint16(math.Ceil(math.Ln2 / (math.Log1p(relative) - math.Log1p(-relative)))),
		Slots:       uint16(cmp.Or(o.Slots, 5)),
		MaxAge:      cmp.Or(o.MaxAge, 10*time.Minute),
	}
	for i := range f.Sketch.Quantiles {
		f.Sketch.Quantiles[i] += 0 // turns -0 into 0
	}
}

func (o *SummaryOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries, maxValueLength: o.MaxValueLength,
		labels: o.Labels}
}

// stateSet combines the states and options of a state set.
type stateSet struct {
	states []string
	o      *StateSetOptions
}

func (s stateSet) define(f *backend.Family, _ *StateSet) {
	f.Kind, f.States = backend.StateSet, slices.Clone(s.states)
}

func (s stateSet) common() common {
	o := s.o
	if o == nil {
		return common{}
	}
	return common{ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries, maxValueLength: o.MaxValueLength, mode: o.Mode,
		labels: o.Labels}
}

var errNoObjectives = errors.New("RelativeError, MaxAge and Slots need Objectives")

// invalid returns an error for options that checking the schema would not find.
func (o *SummaryOptions) invalid() error {
	switch {
	case o == nil:
	case o.RelativeError != 0 && !(o.RelativeError >= .005 && o.RelativeError <= .5):
		return fmt.Errorf("RelativeError %v must be from 0.005 to 0.5, or 0 for 0.01", o.RelativeError)
	case o.Slots < 0 || o.Slots > math.MaxUint16:
		return fmt.Errorf("number of Slots %d must be from 1 to 60, or 0 for 5", o.Slots)
	case o.Objectives == nil && (o.RelativeError != 0 || o.MaxAge != 0 || o.Slots != 0):
		return errNoObjectives
	}
	return nil
}

func (o *HistogramOptions) invalid() error {
	switch {
	case o == nil || o.Native == nil:
	case o.Native.Factor != 0 && !(o.Native.Factor > 1 && word.Finite(o.Native.Factor)):
		return fmt.Errorf("Native.Factor %v must be above 1, or 0 for 1.1", o.Native.Factor)
	case o.Native.MaxBuckets < 0 || o.Native.MaxBuckets > backend.MaxBlock:
		return fmt.Errorf("Native.MaxBuckets %d must be from 1 to %d, or 0 for 160", o.Native.MaxBuckets, backend.MaxBlock)
	}
	return nil
}

// withExistingObjectives returns o, with the objectives of the existing summary of this name if o
// has only options that need objectives.
func withExistingObjectives[M Instrument](r *Registry, name string, o OptionsFor[M]) OptionsFor[M] {
	s, ok := any(o).(*SummaryOptions)
	if !ok || s.invalid() != errNoObjectives {
		return o
	}
	for _, f := range r.base().home.Named(name) {
		if f.Def.Sketch != nil {
			c := *s
			c.Objectives = f.Def.Sketch.Quantiles
			return any(&c).(OptionsFor[M])
		}
	}
	return o
}

// givenBy returns what options set.
func givenBy(options interface{ common() common }) series.Given {
	c := options.common()
	g := series.Given{TTL: c.ttl != 0, MaxSeries: c.maxSeries != 0, MaxValueLength: c.maxValueLength != 0, Labels: len(c.labels) > 0}
	switch o := options.(type) {
	case *HistogramOptions:
		if o != nil {
			g.Buckets = o.Buckets != nil
			if n := o.Native; n != nil {
				g.Native = &series.GivenNative{Factor: n.Factor != 0, ZeroThreshold: n.ZeroThreshold != 0, MaxBuckets: n.MaxBuckets != 0}
			}
		}
	case *SummaryOptions:
		if o != nil && o.Objectives != nil {
			g.Sketch = &series.GivenSketch{RelativeError: o.RelativeError != 0, Slots: o.Slots != 0, MaxAge: o.MaxAge != 0}
		}
	}
	return g
}
