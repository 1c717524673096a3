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
	"github.com/gotheus/gotheus/internal/word"
)

// Labels are label names with their values.
type Labels map[string]string

// RegistryOptions are for NewRegistry. The zero value is good.
type RegistryOptions struct {
	Prefix        string       // put before the name of every family, of collectors too
	Labels        Labels       // constant labels of every series, of collectors too
	Logger        *slog.Logger // takes what the library has to say; nil: slog.Default()
	NoSelfMetrics bool         // leaves the gotheus_* families out of the page
	MaxSeries     int          // the default of CounterOptions.MaxSeries; 0: 10000
	// TTL is the default for CounterOptions.TTL; 0: for ever.
	TTL time.Duration

	// SampleInterval is how often functions of metrics and process collectors are called where
	// processes share a backend, so that the pages of others are up to date; 0: 5 s.
	SampleInterval time.Duration
	// Exemplar returns the labels of an exemplar for what happens in a context, such as the id
	// of its trace; nil or none: there is none. Counter.AddContext and Histogram.ObserveContext
	// ask it, concurrently.
	Exemplar func(context.Context) Labels

	// Now is the clock of ObserveSince, SetSince, AddSince, SetToCurrentTime, Registry.Now and
	// times to live; it may be called concurrently. Nil: time.Now. With another clock, as in a
	// test, the start of what is timed must come from Registry.Now.
	Now func() time.Time
}

// Mode says what a gauge is where several processes have it, see [ModeShared] and the others.
type Mode = backend.Mode

// CounterOptions are a counter's. The zero value is good, and so is nil.
//
// Where a family is there already, a zero option means that it stays as it is: asking for it once
// more without options returns it. Another value than it has is a conflict. It is as with MaxSeries
// of 0, nil Buckets, and all other options of all metrics.
type CounterOptions struct {
	// Unit is the base unit, such as "seconds" or "bytes". If it is given, the name must end in
	// it (before _total), as OpenMetrics demands.
	Unit string
	// TTL makes series vanish that have not been updated for so long, by no process. One that
	// is updated again comes back from zero. It is checked eight times within the TTL, so a
	// series may stay an eighth longer. 0: the registry's; negative: never. A metric without
	// labels always stays.
	TTL time.Duration

	// Defaults are values of labels that look-ups do not give: With no longer takes them. They
	// belong to the Vec, not to the family: two of the same family may have different ones.
	Defaults Labels

	// Normalize has functions that values pass before they are looked up, by label name: those
	// given to With and the others, to Partial and Declare, and defaults. OneOf and
	// strings.ToLower are such functions. They are called on each look-up and concurrently,
	// must be quick, and always return the same for the same value. Like Defaults, they belong
	// to the Vec.
	Normalize map[string]func(string) string

	// MaxSeries limits how many series look-ups of this process can make in the family; see Vec
	// for what happens then. 0: RegistryOptions.MaxSeries; negative: no limit. It belongs to
	// the family: asking for it again with another limit is a conflict. It has no meaning
	// without labels.
	MaxSeries int

	// Stripes keeps the words of a series so many times, from 2 to 64, on cache lines of their
	// own, so that goroutines and processes that update it all the time do not slow each other
	// down; pages show the sum. An update by one alone takes a few nanoseconds more than
	// without. As many as there are processors that do so is a good choice. It costs a multiple
	// of the memory, and belongs to the schema: processes that disagree about it have different
	// families. Histograms can have it, too, unless they have exponential buckets.
	Stripes int

	// Labels are constant labels of all series of this metric, beside the registry's, such as
	// the name of the pool that it is about. Neither the registry nor the metric may have a
	// label of the same name.
	Labels Labels
}

// GaugeOptions are a gauge's. The zero value is good, and so is nil. See [CounterOptions] for what
// all metrics have.
type GaugeOptions struct {
	Unit      string                         // a suffix of the name, such as "bytes"
	TTL       time.Duration                  // see CounterOptions; negative: never
	Defaults  Labels                         // values of labels that With does not take
	Normalize map[string]func(string) string // functions for values, by label
	MaxSeries int                            // from look-ups; negative: no limit
	Mode      Mode                           // of several processes; zero: ModeShared
	Labels    Labels                         // constant ones, beside the registry's
}

// HistogramOptions are a histogram's. The zero value is good, and so is nil. See [CounterOptions]
// for what all metrics have.
type HistogramOptions struct {
	Unit      string                         // a suffix of the name, such as "seconds"
	TTL       time.Duration                  // see CounterOptions; negative: never
	Defaults  Labels                         // values of labels that With does not take
	Normalize map[string]func(string) string // functions for values, by label
	MaxSeries int                            // from look-ups; negative: no limit
	Stripes   int                            // for updates by many at once; not with Native
	Labels    Labels                         // constant ones, beside the registry's

	// Buckets are the upper bounds, inclusive, in ascending order. The +Inf bucket is always
	// there and must not be given. Nil means DefaultBuckets, or none if there is Native; an
	// empty slice means +Inf alone.
	Buckets []float64
	// Native gives the histogram exponential buckets: alone, or beside Buckets if these are
	// given, too.
	Native *NativeOptions
}

// NativeOptions describe exponential buckets, those of Prometheus' native histograms: each bound is
// the one before times a factor. There are as many as are in use, from the smallest float to the
// largest. The zero value is good. See docs/distributions.md for what they cost.
type NativeOptions struct {
	// Factor is how much larger a bound is than the one before, at most: the next smaller of
	// the factors that Prometheus knows is used, see SchemaFactor. It must be above 1; 0: 1.1,
	// which gives 1.0905.
	Factor float64
	// ZeroThreshold is up to where values, and their negations, count as zero. 0: 2^-128;
	// negative: only zero does.
	ZeroThreshold float64
	// MaxBuckets is how many buckets a series has on a page at most, negative ones included; 0:
	// 160. A series whose observations need more is shown with buckets twice, four times, … as
	// wide. No number of writers and no death of one can exceed it.
	MaxBuckets int
}

// SummaryOptions are a summary's. The zero value is good, and so is nil: a count and a sum. See
// [CounterOptions] for what all metrics have.
type SummaryOptions struct {
	Unit      string                         // a suffix of the name, such as "seconds"
	TTL       time.Duration                  // see CounterOptions; negative: never
	Defaults  Labels                         // values of labels that With does not take
	Normalize map[string]func(string) string // functions for values, by label
	MaxSeries int                            // from look-ups; negative: no limit
	Labels    Labels                         // constant ones, beside the registry's

	// Objectives are the quantiles to show, in ascending order and from 0 to 1, such as .5, .9
	// and .99. They are over all processes that share the summary, and over its last
	// observations, see MaxAge; NaN if there is none. The quantile q of n observations is the
	// one at place q·n, rounded up, in their order.
	Objectives []float64
	// RelativeError is how far from the right one a quantile can be: 0.01, which 0 stands for,
	// is 1 %. From 0.005 to 0.5. It holds as long as the observations of a series do not spread
	// over too many orders of magnitude, see docs/distributions.md.
	RelativeError float64
	// MaxAge is how long an observation counts for the quantiles; 0: 10 minutes. It is
	// forgotten at the end of one of Slots parts of MaxAge; 0: 5. So with these the quantiles
	// are those of the last 8 to 10 minutes.
	MaxAge time.Duration
	Slots  int
}

// StateSetOptions are a state set's. The zero value is good, and so is nil. See [CounterOptions]
// for what all metrics have. The mode is ModeShared (zero), where all processes have the one state,
// or ModePerProcess, where each has its own.
type StateSetOptions struct {
	TTL       time.Duration                  // see CounterOptions; negative: never
	Defaults  Labels                         // values of labels that With does not take
	Normalize map[string]func(string) string // functions for values, by label
	MaxSeries int                            // from look-ups; negative: no limit
	Mode      Mode                           // ModeShared or ModePerProcess
	Labels    Labels                         // constant ones, beside the registry's
}

// UntypedOptions are those of a metric whose type is not known. The zero value is good, and so is
// nil.
type UntypedOptions struct {
	Unit   string // a suffix of the name, such as "celsius"
	Labels Labels // constant ones, beside the registry's
}

// Instrument is what a [Vec] can hold.
type Instrument interface {
	Counter | Gauge | Histogram | Summary | StateSet
}

// OptionsFor ties each instrument to its options, *CounterOptions to Counter and so on, so that
// buckets on a counter do not compile. Nil stands for the default options.
type OptionsFor[M Instrument] interface {
	define(f *backend.Family, _ *M) // sets what the family's schema has of them
	common() common
}

// common is what the options of all kinds, or nearly all, have.
type common struct {
	unit      string
	ttl       time.Duration
	defaults  Labels
	normalize map[string]func(string) string
	maxSeries int
	stripes   int
	mode      Mode
	labels    Labels
}

// optionsFor turns a nil interface into the nil pointer that M's options are.
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
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries,
		stripes: o.Stripes, labels: o.Labels}
}

func (o *GaugeOptions) define(f *backend.Family, _ *Gauge) { f.Kind = backend.Gauge }

func (o *GaugeOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries,
		mode: o.Mode, labels: o.Labels}
}

// untypedOptions are options of what is a gauge to the program, but not on a page.
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
			f.Buckets[i] += 0 // minus zero is the same bound as zero
		}
	}
}

func (o *HistogramOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries,
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
		f.Sketch.Quantiles[i] += 0 // minus zero is zero
	}
}

func (o *SummaryOptions) common() common {
	if o == nil {
		return common{}
	}
	return common{unit: o.Unit, ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries,
		labels: o.Labels}
}

// stateSet is a state set's states with its options.
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
	return common{ttl: o.TTL, defaults: o.Defaults, normalize: o.Normalize, maxSeries: o.MaxSeries, mode: o.Mode,
		labels: o.Labels}
}

// invalid says what is wrong with options that a schema cannot say.
func (o *SummaryOptions) invalid() error {
	switch {
	case o == nil:
	case o.RelativeError != 0 && !(o.RelativeError >= .005 && o.RelativeError <= .5):
		return fmt.Errorf("RelativeError %v must be from 0.005 to 0.5, or 0 for 0.01", o.RelativeError)
	case o.Slots < 0 || o.Slots > math.MaxUint16:
		return fmt.Errorf("number of Slots %d must be from 1 to 60, or 0 for 5", o.Slots)
	case o.Objectives == nil && (o.RelativeError != 0 || o.MaxAge != 0 || o.Slots != 0):
		return errors.New("RelativeError, MaxAge and Slots mean nothing without Objectives")
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

func (n *NativeOptions) define() *backend.Native {
	factor := cmp.Or(n.Factor, 1.1)
	schema := -4
	for schema < 8 && SchemaFactor(schema) > factor {
		schema++
	}
	zero := cmp.Or(n.ZeroThreshold, 0x1p-128)
	return &backend.Native{Schema: int8(schema), ZeroThreshold: max(zero, 0), MaxBuckets: uint32(cmp.Or(n.MaxBuckets, 160))}
}
