package metrictest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
)

// TB is the part of testing.TB that this package needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Valuer is an instrument with a single value, like a *gotheus.Counter.
type Valuer interface{ Value() float64 }

// Delta returns by how much f changes the value of an instrument, regardless of its value before.
// Others must not change it meanwhile.
func Delta(instrument Valuer, f func()) float64 {
	before := instrument.Value()
	f()
	return instrument.Value() - before
}

// Count returns a Valuer for an instrument's number of observations, for instance a
// *gotheus.Histogram's.
func Count(instrument interface{ Count() uint64 }) Valuer {
	return valuer(func() float64 { return float64(instrument.Count()) })
}

// Sum returns a Valuer for the sum of an instrument's observations.
func Sum(instrument interface{ Sum() float64 }) Valuer { return valuer(instrument.Sum) }

type valuer func() float64

func (v valuer) Value() float64 { return v() }

// Value returns the value of a sample in the notation of a page, name{a="b"}, with the labels in
// any order. It returns false if the page does not have it.
func (p *Page) Value(sample string) (value float64, ok bool) {
	name, labels, rest, err := splitSample(sample)
	if err != nil || strings.TrimSpace(rest) != "" {
		return 0, false
	}
	value, ok = p.samples[key(name, labels)]
	return value, ok
}

// Want fails the test unless a sample is on r's page and has this value, see [Page.Value]. The
// failure lists the samples with that name.
func Want(t TB, r *gotheus.Registry, sample string, want float64) {
	t.Helper()
	p, err := Read(r)
	if err != nil {
		t.Fatalf("%v", err)
		return
	}
	name, _, rest, err := splitSample(sample)
	if err != nil || strings.TrimSpace(rest) != "" {
		t.Fatalf("metrictest: %q is not a sample such as name{label=\"value\"}", sample)
		return
	}
	got, ok := p.Value(sample)
	switch {
	case !ok:
		t.Errorf("%s is not on the page; there are:%s", sample, p.list(name))
	case got != want && !(got != got && want != want):
		t.Errorf("%s is %s, want %s", sample, formatValue(got), formatValue(want))
	}
}

// list returns a few samples with a name.
func (p *Page) list(name string) string {
	var b strings.Builder
	n := 0
	for _, f := range p.families {
		for _, s := range f.samples {
			if s.name != name {
				continue
			}
			if n++; n <= 10 {
				b.WriteString("\n\t" + s.line)
			}
		}
	}
	switch {
	case n == 0:
		return " none with that name"
	case n > 10:
		fmt.Fprintf(&b, "\n\tand %d more", n-10)
	}
	return b.String()
}

// Series returns the number of series of the families with these names, or of all families if none
// is named. A histogram or summary counts once for each label set.
func (p *Page) Series(families ...string) int {
	n := 0
	for _, f := range p.families {
		if len(families) > 0 && !contains(families, f.name) {
			continue
		}
		seen := make(map[string]bool)
		for _, s := range f.samples {
			labels := maps.Clone(s.label)
			switch f.typ {
			case "histogram":
				delete(labels, "le")
			case "summary":
				delete(labels, "quantile")
			}
			seen[key("", labels)] = true
		}
		n += len(seen)
	}
	return n
}

// key returns name and labels in a form that is the same for equal ones.
func key(name string, labels gotheus.Labels) string {
	if len(labels) == 0 {
		return name
	}
	names := slices.Sorted(maps.Keys(labels))
	f := backend.Family{Labels: names}
	values := make([]string, len(names))
	for i, n := range names {
		values[i] = strings.ToValidUTF8(labels[n], "\uFFFD")
	}
	text, _ := f.LabelText(values...)
	return name + "{" + text + "}"
}

func formatValue(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func contains(list []string, s string) bool { return slices.Contains(list, s) }
