package gotheus

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/gotheus/gotheus/backend"
)

// Labels are label names with their values.
type Labels map[string]string

// RegistryOptions are for NewRegistry. The zero value is good.
type RegistryOptions struct {
	Prefix        string       // put before the name of every family on the page, of collectors too
	Labels        Labels       // constant labels of every series on the page, of collectors too
	Logger        *slog.Logger // takes what the library has to say; nil: slog.Default() at that time
	NoSelfMetrics bool         // leaves the gotheus_* families out of the page
	MaxSeries     int          // of each family, unless its options say otherwise; 0: 10000; negative: no limit
	// TTL is the default for Options.TTL; 0: for ever.
	TTL time.Duration

	// Now is the clock of ObserveSince, SetSince, AddSince, SetToCurrentTime, Registry.Now and times to
	// live; it may be called concurrently. Nil: time.Now. With another clock, as in a test, the
	// start of what is timed must come from Registry.Now.
	Now func() time.Time
}

// Options are a counter's, and what the options of the others have in common. The zero value is good.
type Options struct {
	// Unit is the base unit, such as "seconds" or "bytes". If it is given, the name must end in it
	// (before _total), as OpenMetrics demands.
	Unit string
	// TTL makes series vanish that have not been updated for so long, by no process. One that is updated
	// again comes back from zero. It is checked eight times within the TTL, so a series may stay an
	// eighth longer. 0: the registry's; negative: never. A metric without labels always stays.
	TTL time.Duration

	// Defaults are values of labels that look-ups do not give: With no longer takes them. They belong
	// to the Vec, not to the family: two of the same family may have different ones.
	Defaults Labels

	// Normalize has functions that values pass before they are looked up, by label name: those given
	// to With and the others, to Partial and Declare, and defaults. OneOf and strings.ToLower are such
	// functions. They are called on each look-up and concurrently, must be quick, and always return the
	// same for the same value. Like Defaults, they belong to the Vec.
	Normalize map[string]func(string) string

	// MaxSeries limits how many series look-ups of this process can make in the family; see Vec for
	// what happens then. 0: RegistryOptions.MaxSeries; negative: no limit. It belongs to the family:
	// asking for it again with another limit is a conflict. It has no meaning without labels.
	MaxSeries int
}

// GaugeOptions are a gauge's. The zero value is good.
type GaugeOptions struct {
	Options
	Mode backend.Mode // what the value is if several processes have the gauge; zero: Shared
}

// HistogramOptions are a histogram's. The zero value is good.
type HistogramOptions struct {
	Options
	// Buckets are the upper bounds, inclusive, in ascending order. The +Inf bucket is always there
	// and must not be given. Nil means DefaultBuckets; an empty slice means +Inf alone.
	Buckets []float64
}

// SummaryOptions are a summary's. The zero value is good.
type SummaryOptions struct {
	Options
}

// Instrument is what a [Vec] can hold.
type Instrument interface {
	Counter | Gauge | Histogram | Summary
}

// OptionsFor ties each instrument to its options, *Options to Counter and so on, so that buckets on a
// counter do not compile. Nil stands for the default options.
type OptionsFor[M Instrument] interface {
	define(f *backend.Family, _ *M)
	common() *Options
}

// optionsFor turns a nil interface into the nil pointer that M's options are.
func optionsFor[M Instrument](o OptionsFor[M]) OptionsFor[M] {
	if o != nil {
		return o
	}
	var none any
	switch any((*M)(nil)).(type) {
	case *Counter:
		none = (*Options)(nil)
	case *Gauge:
		none = (*GaugeOptions)(nil)
	case *Histogram:
		none = (*HistogramOptions)(nil)
	case *Summary:
		none = (*SummaryOptions)(nil)
	}
	return none.(OptionsFor[M])
}

func (o *Options) define(f *backend.Family, _ *Counter) {
	f.Kind = backend.Counter
	if o != nil {
		f.Unit = o.Unit
	}
}

func (o *GaugeOptions) define(f *backend.Family, _ *Gauge) {
	f.Kind = backend.Gauge
	if o != nil {
		f.Unit, f.Mode = o.Unit, o.Mode
	}
}

func (o *HistogramOptions) define(f *backend.Family, _ *Histogram) {
	f.Kind = backend.Histogram
	f.Buckets = DefaultBuckets()
	if o != nil {
		f.Unit = o.Unit
		if o.Buckets != nil {
			f.Buckets = append([]float64(nil), o.Buckets...)
			for i := range f.Buckets {
				f.Buckets[i] += 0 // minus zero is the same bound as zero
			}
		}
	}
}

func (o *SummaryOptions) define(f *backend.Family, _ *Summary) {
	f.Kind = backend.Summary
	if o != nil {
		f.Unit = o.Unit
	}
}

// common returns what the options of all kinds have in common, never nil.
func (o *Options) common() *Options {
	if o == nil {
		return new(Options)
	}
	return o
}

func (o *GaugeOptions) common() *Options {
	if o == nil {
		return new(Options)
	}
	return &o.Options
}

func (o *HistogramOptions) common() *Options {
	if o == nil {
		return new(Options)
	}
	return &o.Options
}

func (o *SummaryOptions) common() *Options {
	if o == nil {
		return new(Options)
	}
	return &o.Options
}

// DefaultBuckets returns the bounds of histograms that give none: .005, .01, .025, .05, .1, .25, .5,
// 1, 2.5, 5 and 10, made for durations of requests in seconds.
func DefaultBuckets() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// LinearBuckets returns n bounds, the first being start and each being width above the one before. It
// panics unless n is positive, width is positive, and all bounds are finite.
func LinearBuckets(start, width float64, n int) []float64 {
	if n < 1 || !(width > 0) || !finite(start+width*float64(n)) {
		panic(fmt.Sprintf("gotheus: LinearBuckets(%v, %v, %d): width and n must be positive, bounds finite", start, width, n))
	}
	b := make([]float64, n)
	for i := range b {
		b[i] = start + width*float64(i)
	}
	return b
}

// ExponentialBuckets returns n bounds, the first being start and each being factor times the one
// before. It panics unless n and start are positive, factor is above 1, and all bounds are finite.
func ExponentialBuckets(start, factor float64, n int) []float64 {
	if n < 1 || !(start > 0) || !(factor > 1) || !finite(start*math.Pow(factor, float64(n))) {
		panic(fmt.Sprintf("gotheus: ExponentialBuckets(%v, %v, %d): start and n must be positive, factor above 1, bounds finite", start, factor, n))
	}
	b := make([]float64, n)
	for i := range b {
		b[i] = start
		start *= factor
	}
	return b
}

func finite(v float64) bool { return v-v == 0 }
