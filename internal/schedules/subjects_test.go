//go:build linux && (386 || amd64 || arm64)

package schedules_test

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// subject is an instrument that scenarios update, in one process or registry.
type subject struct {
	update func(v float64) // by a power of two, each once in the life of the series
	family family          // nil for infos
}

type family interface {
	Delete(values ...string) bool
	DeleteAll() int
}

// counted is what a page has of a subject. Updates are distinct powers of two, so that their sum
// says which they are.
type counted struct {
	found    bool
	set      uint64
	start    int64  // 0: there is none
	exemplar uint64 // the update that it is of; 0: there is none
}

// kind is a kind of subject.
type kind struct {
	name string
	make func(r *gotheus.Registry, label string) subject
	read func(c *counted, f *gotheus.Family, p gotheus.Point) error // adds a point of a page

	last      bool // an update replaces those before it
	starts    bool // its series have starts
	exemplars bool // each update has an exemplar
	perOwner  bool // each process has values of its own
	info      bool // it has no series of its own that code could delete
}

const name = "x_total"

var classic = []float64{1, 2, 4}

func kinds() []kind {
	native, both := new(gotheus.NativeOptions), &gotheus.HistogramOptions{Native: new(gotheus.NativeOptions), Buckets: classic}
	few := &gotheus.SummaryOptions{Objectives: []float64{.5}, RelativeError: .3, Slots: 1} // words
	list := []kind{
		{name: "counter", make: counter(nil, 1), read: number(1), starts: true},
		{name: "counter of fractions", make: counter(nil, 1./1024), read: number(1. / 1024), starts: true},
		{name: "counter with stripes", make: counter(&gotheus.CounterOptions{Stripes: 2}, 1), read: number(1), starts: true},
		{name: "counter with exemplars", make: exemplars, read: exemplar, starts: true, exemplars: true},
		{name: "histogram", make: histogram(&gotheus.HistogramOptions{Buckets: classic}), read: distribution, starts: true},
		{name: "histogram with stripes", make: histogram(&gotheus.HistogramOptions{Stripes: 2, Buckets: classic}), read: distribution, starts: true},
		{name: "histogram, several at once", make: observeN(&gotheus.HistogramOptions{Buckets: classic}), read: distribution, starts: true},
		{name: "native histogram", make: histogram(&gotheus.HistogramOptions{Native: native}), read: distribution, starts: true},
		{name: "native and classic histogram", make: histogram(both), read: distribution, starts: true},
		{name: "native and classic histogram, several at once", make: observeN(both), read: distribution, starts: true},
		{name: "native histogram, in further blocks", make: further(histogram(&gotheus.HistogramOptions{Native: native})), read: distribution, starts: true},
		{name: "summary", make: summary(nil), read: distribution, starts: true},
		{name: "summary with quantiles", make: summary(&gotheus.SummaryOptions{Objectives: []float64{.5}}), read: distribution, starts: true},
		{name: "summary with quantiles, in further blocks", make: further(summary(few)), read: distribution, starts: true},
		{name: "gauge, added to", make: gauge(nil, (*gotheus.Gauge).Add), read: number(1)},
		{name: "gauge, set", make: gauge(nil, (*gotheus.Gauge).Set), read: number(1), last: true},
		{name: "gauge with a TTL, set", make: gauge(&gotheus.GaugeOptions{TTL: math.MaxInt64}, (*gotheus.Gauge).Set), read: number(1), last: true},
		{name: "state set", make: stateSet(nil), read: state, last: true},
		{name: "state set of each process", make: stateSet(&gotheus.StateSetOptions{Mode: gotheus.ModePerProcess}), read: state, last: true, perOwner: true},
		{name: "info", make: info, read: fact, last: true, perOwner: true, info: true},
	}
	for _, mode := range []gotheus.Mode{gotheus.ModeSum, gotheus.ModeMin, gotheus.ModeMax, gotheus.ModeMean, gotheus.ModeLatest, gotheus.ModePerProcess} {
		o := &gotheus.GaugeOptions{Mode: mode}
		list = append(list, kind{name: fmt.Sprint("gauge of mode ", mode, ", set"), make: gauge(o, (*gotheus.Gauge).Set), read: number(1), last: true, perOwner: true})
	}
	o := &gotheus.GaugeOptions{Mode: gotheus.ModeSum}
	return append(list, kind{name: "gauge of mode sum, added to", make: gauge(o, (*gotheus.Gauge).Add), read: number(1), perOwner: true})
}

func counter(o *gotheus.CounterOptions, unit float64) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		v := r.NewCounterVec(name, "X.", o, "l")
		c := v.With(label)
		return subject{func(v float64) { c.Add(v * unit) }, v}
	}
}

func exemplars(r *gotheus.Registry, label string) subject {
	v := r.NewCounterVec(name, "X.", nil, "l")
	c := v.With(label)
	return subject{func(v float64) { c.AddExemplar(v, gotheus.Labels{"v": fmt.Sprint(v)}) }, v}
}

func gauge(o *gotheus.GaugeOptions, update func(*gotheus.Gauge, float64)) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		v := r.NewGaugeVec(name, "X.", o, "l")
		g := v.With(label)
		return subject{func(v float64) { update(g, v) }, v}
	}
}

var stateNames = []string{"1", "2", "4", "8", "16", "32", "64", "128"}

func stateSet(o *gotheus.StateSetOptions) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		v := r.NewStateSetVec(name, "X.", stateNames, o, "l")
		s := v.With(label)
		return subject{func(v float64) { s.Set(fmt.Sprint(v)) }, v}
	}
}

// info has the last update as a fact.
func info(r *gotheus.Registry, label string) subject {
	facts := func(v float64) gotheus.Labels { return gotheus.Labels{"l": label, "v": fmt.Sprint(v)} }
	i := r.NewInfo("x_info", "X.", facts(0))
	return subject{func(v float64) { i.Set(facts(v)) }, nil}
}

// fact reads an info.
func fact(c *counted, _ *gotheus.Family, p gotheus.Point) error {
	for _, l := range p.Labels {
		if l.Name == "v" {
			v, err := strconv.ParseUint(l.Value, 10, 64)
			c.set |= v
			return err
		}
	}
	return nil
}

func histogram(o *gotheus.HistogramOptions) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		v := r.NewHistogramVec(name, "X.", o, "l")
		h := v.With(label)
		return subject{h.Observe, v}
	}
}

func observeN(o *gotheus.HistogramOptions) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		v := r.NewHistogramVec(name, "X.", o, "l")
		h := v.With(label)
		return subject{func(v float64) { h.ObserveN(v, 1) }, v}
	}
}

func summary(o *gotheus.SummaryOptions) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		v := r.NewSummaryVec(name, "X.", o, "l")
		s := v.With(label)
		return subject{s.Observe, v}
	}
}

// further makes subjects whose updates need another block of exponential buckets: the first one is
// full of fractions.
func further(newSubject func(r *gotheus.Registry, label string) subject) func(r *gotheus.Registry, label string) subject {
	return func(r *gotheus.Registry, label string) subject {
		s := newSubject(r, label)
		for i := range backend.FirstBlock {
			s.update(math.Exp2(-1 - float64(i)))
		}
		return s
	}
}

// number reads counters and gauges.
func number(unit float64) func(c *counted, f *gotheus.Family, p gotheus.Point) error {
	return func(c *counted, _ *gotheus.Family, p gotheus.Point) error {
		c.set, c.start = uint64(p.Number.Value()/unit), p.Number.Start
		return nil
	}
}

// exemplar reads counters with exemplars. Each is of an update that the series has counted.
func exemplar(c *counted, _ *gotheus.Family, p gotheus.Point) error {
	c.set, c.start = uint64(p.Number.Value()), p.Number.Start
	if p.Number.Exemplar.Time == 0 { // there is none
		return nil
	}
	for _, l := range backend.ParseLabels(p.Number.Exemplar.Labels) {
		v, err := strconv.ParseUint(l, 10, 64)
		if c.exemplar = v; err != nil || v&c.set == 0 {
			return fmt.Errorf("the exemplar is of update %q, and %b have counted: %v", l, c.set, err)
		}
	}
	return nil
}

// state reads one state of a state set.
func state(c *counted, _ *gotheus.Family, p gotheus.Point) error {
	for _, l := range p.Labels {
		if l.Name == name && p.Number.Value() == 1 {
			n, err := strconv.ParseUint(l.Value, 10, 64)
			c.set |= n
			return err
		}
	}
	return nil
}

// distribution reads a histogram or summary, all parts of which must have the same observations.
func distribution(c *counted, f *gotheus.Family, p gotheus.Point) error {
	d := p.Distribution
	// The fractions of each process, see further, add up to a little less than 1.
	const little = 1. / (1 << backend.FirstBlock)
	filled := math.Mod(math.Ceil(d.Sum)-d.Sum, 1) / little
	sum := d.Sum - filled*(1-little)
	c.set, c.start = uint64(sum), d.Start
	if n := bits.OnesCount64(c.set) + int(filled)*backend.FirstBlock; sum != float64(c.set) || filled > 2 || d.Count != uint64(n) {
		return fmt.Errorf("the sum is %v, and the count is %d", d.Sum, d.Count)
	}
	if f.Type != expo.Histogram {
		return nil
	}
	for i, below := range d.Buckets[:min(len(d.Buckets), len(f.Bounds))] {
		n := bits.OnesCount64(c.set & (2*uint64(math.Exp2(math.Floor(math.Log2(f.Bounds[i])))) - 1))
		if below != uint64(n) {
			return fmt.Errorf("the sum is %v, and %d observations are at most %v", d.Sum, below, f.Bounds[i])
		}
	}
	if d.Native != nil {
		sum := d.Native.ZeroCount
		for _, b := range d.Native.Positive {
			sum += b.Count
		}
		if sum != d.Count {
			return fmt.Errorf("the count is %d, and exponential buckets have %d", d.Count, sum)
		}
	}
	return nil
}

// onPage returns what r's page has of the subject with this label.
func onPage(r *gotheus.Registry, k *kind, label string) (c counted, err error) {
	for f, syncErr := range r.Families(context.Background()) {
		if syncErr != nil {
			return c, syncErr
		}
		if !strings.HasPrefix(f.Name, "x_") {
			continue
		}
		for p := range f.Points() {
			if !slices.Contains(p.Labels, gotheus.Label{Name: "l", Value: label}) {
				continue
			}
			c.found = true
			if err := k.read(&c, f, p); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}
