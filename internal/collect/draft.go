// Package collect implements what collectors need: families while they are written, and runs that
// scrapes share.
package collect

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/names"
	"github.com/gotheus/gotheus/internal/page"
	"github.com/gotheus/gotheus/internal/series"
)

// Rules say what is added to the families of a collector, and what these may be.
type Rules struct {
	Prefix     string
	Labels     series.Labels // constant ones
	PerProcess bool          // the families are stored for this process
	Library    bool          // the families are the library's own, whose names are reserved
}

// Draft is a family that a collector is writing. Its methods add series; the first one that is
// wrong makes the whole family invalid, see Err. Only what is wrong with label values, which may
// come from anyone, costs no more than the series or the exemplar that has them.
type Draft struct {
	page.Collected
	rules    *Rules
	open     []int // each label's index in the values of a series; -1: it is constant
	err      error
	repaired map[string]bool // label texts with values that were not UTF-8; nil: there are none
	leftOut  *FamilyError    // why something was left out; nil: nothing was
}

// FamilyError is an error about one family of a collector.
type FamilyError struct {
	Name string
	Err  error
}

func (e *FamilyError) Error() string { return e.Err.Error() }
func (e *FamilyError) Unwrap() error { return e.Err }

// Begin begins a family. more has the states of a state set, the bounds of a histogram or the
// quantiles of a summary.
func Begin(r *Rules, t expo.Type, name, help string, more any, labels []string) *Draft {
	d := &Draft{rules: r}
	d.Family = expo.Family{Name: r.Prefix + name, Help: help, Type: t}
	d.Def = backend.Family{Name: d.Name, Help: help, Kind: names.KindOf(t)}
	switch {
	case r.PerProcess:
		d.Def.Mode = backend.PerInstance
	case t == expo.Untyped:
		d.Def.Kind = backend.Gauge // which has the same rules
	case t == expo.Info:
		d.Def.Mode = backend.Max
	}
	switch more := more.(type) {
	case []string:
		d.Def.States = slices.Clone(more)
	case []float64:
		d.Bounds = slices.Clone(more)
		if t == expo.Histogram || r.PerProcess {
			d.Def.Buckets = d.Bounds
		} else if err := d.Def.CheckQuantiles(d.Bounds); err != nil {
			d.invalid(err)
		}
	}
	constant := slices.Sorted(maps.Keys(r.Labels))
	var place []int
	d.Def.Labels, place = backend.SortLabels(append(slices.Clone(labels), constant...))
	for _, p := range place {
		if p >= len(labels) {
			p = -1
		}
		d.open = append(d.open, p)
	}
	if err := d.Def.Check(); err != nil {
		d.invalid(err)
	}
	if err := series.CheckName(name); err != nil && !r.Library {
		d.invalid(err)
	}
	return d
}

// Err returns what is wrong with the family, a *FamilyError, or nil.
func (d *Draft) Err() error { return d.err }

// Fail makes the family invalid, unless it is already.
func (d *Draft) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = &FamilyError{d.Name, fmt.Errorf("%w: %s: "+format, append([]any{series.ErrInvalid, d.Name}, args...)...)}
	}
}

// invalid is Fail with an error that names the family.
func (d *Draft) invalid(err error) {
	if d.err == nil {
		d.err = &FamilyError{d.Name, fmt.Errorf("%w: %w", series.ErrInvalid, err)}
	}
}

func (d *Draft) failPerProcess() {
	d.Fail("values of a process collector must not have timestamps, exemplars or exponential buckets")
}

// Number adds a series with a single value.
func (d *Draft) Number(n expo.Number, values []string) {
	if d.Type == expo.Counter && !(n.Value() >= 0) {
		d.Fail("the value of a counter is %v", n.Value())
	}
	if n.Exemplar.Time != 0 && d.Type != expo.Counter {
		d.Fail("a %v cannot have exemplars", d.Type)
	}
	if n.Start != 0 && d.Type != expo.Counter {
		d.Fail("a %v cannot have a start time", d.Type)
	}
	d.checkExemplar(&n.Exemplar)
	if d.rules.PerProcess && (n.Start != 0 || n.Time != 0 || n.Exemplar.Time != 0) {
		d.failPerProcess()
	}
	d.put(page.Row{Number: n}, values)
}

// States adds a series with the states that are on.
func (d *Draft) States(on []string, values []string) {
	var bits uint64
	for _, state := range on {
		i := slices.Index(d.Def.States, state)
		if i < 0 {
			d.Fail("%q is not one of the states %q", state, d.Def.States)
			return
		}
		bits |= 1 << i
	}
	d.put(page.Row{Number: expo.Number{Int: bits}}, values)
}

// Histogram adds a series of a histogram. It clones the bucket counts.
func (d *Draft) Histogram(v expo.Distribution, values []string) {
	switch n := len(d.Bounds); {
	case len(v.Buckets) != n:
		d.Fail("%d bucket counts for %d bounds", len(v.Buckets), n)
	case !slices.IsSorted(v.Buckets) || n > 0 && v.Buckets[n-1] > v.Count:
		d.Fail("bucket counts %v and the total count %d must not decrease", v.Buckets, v.Count)
	case v.Exemplars != nil && len(v.Exemplars) != n+1:
		d.Fail("%d exemplars for %d buckets, +Inf included", len(v.Exemplars), n+1)
	case v.Quantiles != nil:
		d.Fail("a histogram cannot have quantiles")
	case math.IsNaN(v.Sum):
		d.Fail("the sum is NaN")
	}
	v.Exemplars = d.checkExemplars(v.Exemplars)
	if v.Native != nil {
		n := *v.Native
		d.checkNative(&n, v.Count)
		n.Exemplars = d.checkExemplars(n.Exemplars)
		v.Native = &n
	}
	v.Buckets = slices.Clone(v.Buckets)
	d.putDistribution(v, values)
}

// Summary adds a series of a summary. It clones the quantiles.
func (d *Draft) Summary(v expo.Distribution, values []string) {
	switch {
	case len(v.Quantiles) != len(d.Bounds):
		d.Fail("%d values for %d quantiles", len(v.Quantiles), len(d.Bounds))
	case v.Buckets != nil || v.Exemplars != nil || v.Native != nil:
		d.Fail("a summary cannot have buckets or exemplars")
	}
	v.Quantiles = slices.Clone(v.Quantiles)
	d.putDistribution(v, values)
}

func (d *Draft) putDistribution(v expo.Distribution, values []string) {
	if d.rules.PerProcess && (v.Start != 0 || v.Time != 0 || v.Exemplars != nil || v.Native != nil) {
		d.failPerProcess()
	}
	if d.rules.PerProcess && v.Count >= backend.IntLimit {
		d.Fail("the count %d is not below 2^62", v.Count)
	}
	d.put(page.Row{Dist: v}, values)
}

// checkExemplars returns the list without exemplars that are invalid, whose places stay empty.
func (d *Draft) checkExemplars(list []expo.Exemplar) []expo.Exemplar {
	list = slices.Clone(list)
	for i := range list {
		d.checkExemplar(&list[i])
	}
	return list
}

// checkExemplar leaves out an exemplar that is invalid.
func (d *Draft) checkExemplar(x *expo.Exemplar) {
	if x.Time == 0 {
		return
	}
	var labels []string
	for name := range backend.ParseLabels(x.Labels) {
		labels = append(labels, name)
	}
	err := (&backend.Exemplar{Labels: x.Labels, Value: x.Value}).Check()
	if err == nil {
		err = series.CheckEscaped(labels)
	}
	if err != nil {
		d.leaveOut("an exemplar", err)
		*x = expo.Exemplar{}
	}
}

// checkNative checks what the documentation of expo.Native's fields promises.
func (d *Draft) checkNative(n *expo.Native, count uint64) {
	total := n.ZeroCount
	for _, side := range [][]expo.NativeBucket{n.Positive, n.Negative} {
		for i, b := range side {
			if b.Count == 0 || i > 0 && side[i-1].Index >= b.Index {
				d.Fail("exponential buckets must be in ascending order and not empty")
			}
			total += b.Count
		}
	}
	switch {
	case n.Schema < -4 || n.Schema > 8:
		d.Fail("schema %d of exponential buckets: must be from -4 to 8", n.Schema)
	case !(n.ZeroThreshold >= 0):
		d.Fail("zero threshold %v: must not be negative", n.ZeroThreshold)
	case total != count:
		d.Fail("exponential buckets hold %d observations, the count is %d", total, count)
	}
}

func (d *Draft) put(w page.Row, values []string) {
	if len(values) != len(d.Def.Labels)-len(d.rules.Labels) {
		d.Fail("%d label values for labels %q", len(values), d.Def.Labels)
	}
	if d.err != nil {
		return
	}
	all := make([]string, len(d.open))
	repaired := false
	for i, p := range d.open {
		if p < 0 {
			all[i] = d.rules.Labels[d.Def.Labels[i]]
		} else {
			all[i] = backend.RepairUTF8(values[p])
			repaired = repaired || all[i] != values[p]
		}
	}
	var err error
	if w.Labels, err = d.Def.LabelText(all...); err == nil {
		err = d.Def.CheckText(w.Labels)
	}
	if err != nil {
		d.leaveOut("a series", err)
		return
	}
	if repaired {
		if d.repaired == nil {
			d.repaired = make(map[string]bool)
		}
		d.repaired[w.Labels] = true
	}
	d.Rows = append(d.Rows, w)
}

// leaveOut records that something is left out.
func (d *Draft) leaveOut(what string, err error) {
	if d.leftOut == nil {
		d.leftOut = &FamilyError{d.Name, fmt.Errorf("%w: %s of %s was left out: %w", series.ErrInvalid, what, d.Name, err)}
	}
}

// tellApart leaves out all but one of the series that have become equal because values of theirs
// that were not UTF-8 were replaced.
func (d *Draft) tellApart() {
	if d.repaired == nil {
		return
	}
	had := make(map[string]bool)
	d.Rows = slices.DeleteFunc(d.Rows, func(w page.Row) bool {
		again := d.repaired[w.Labels] && had[w.Labels]
		if had[w.Labels] = true; again {
			d.leaveOut("a series", fmt.Errorf("{%s} is given twice, since U+FFFD has replaced what is not UTF-8 in label values", backend.Clip(w.Labels)))
		}
		return again
	})
}

// Check sorts the series of all families. It returns the valid families, and the errors of the
// others and of series that are left out.
func Check(families []*Draft) (valid []*Draft, wrong []error) {
	taken := make(map[string]bool)
	for _, d := range families {
		d.tellApart()
		if err := d.Sort(); err != nil {
			d.Fail("%w", err)
		}
		if taken[d.Name] {
			d.Fail("the family is given twice")
		}
		taken[d.Name] = true
		if d.err != nil {
			wrong = append(wrong, d.err)
			continue
		}
		if d.leftOut != nil {
			wrong = append(wrong, d.leftOut)
		}
		valid = append(valid, d)
	}
	return valid, wrong
}

// Merger merges the series that several collectors add to one family. The zero value is ready to
// use.
type Merger struct {
	Families []*page.Collected
	byName   map[string]*page.Collected
}

// Add adds a family. It returns a *FamilyError if it disagrees with those that were added before.
func (m *Merger) Add(d *Draft) error {
	old := m.byName[d.Name]
	if old == nil {
		if m.byName == nil {
			m.byName = make(map[string]*page.Collected)
		}
		// A copy, since other scrapes may share the draft.
		shared := d.Collected
		m.byName[d.Name] = &shared
		m.Families = append(m.Families, &shared)
		return nil
	}
	rows, err := old.Join(&d.Collected)
	if err != nil {
		return &FamilyError{d.Name, fmt.Errorf("%w: %s: %w", series.ErrInvalid, d.Name, err)}
	}
	old.Rows = rows
	return nil
}
