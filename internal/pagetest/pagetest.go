// Package pagetest creates pages for tests of encoders, and lists the samples that a parser must
// find on them. It is used only by tests, in several modules.
package pagetest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Page is the input of an encoder.
type Page []Family

// Family is a family with its series.
type Family struct {
	expo.Family
	Rows []Row
}

// Row is a series: the value is Number or Dist, by the family's type.
type Row struct {
	Labels []string // names and values in turn, names ascending
	Text   string   // the same as label text
	Number expo.Number
	Dist   expo.Distribution
}

// Formats returns all distinct formats.
func Formats() (list []expo.Format) {
	for s := expo.Text; s <= expo.Protobuf; s++ {
		for e := expo.Underscores; e <= expo.Values; e++ {
			f := expo.Format{Syntax: s, Escaping: e}
			if f.NameEscaping() != e {
				continue
			}
			list = append(list, f)
			if s == expo.OpenMetrics0 || s == expo.OpenMetrics1 {
				f.Created = true
				list = append(list, f)
			}
		}
	}
	return list
}

// Encode appends the page to dst.
func (p Page) Encode(dst []byte, f expo.Format) []byte {
	e := expo.NewEncoder(f)
	for i := range p {
		dst = e.Family(dst, &p[i].Family)
		for j := range p[i].Rows {
			if row := &p[i].Rows[j]; p[i].isDistribution() {
				dst = e.Distribution(dst, row.Text, &row.Dist)
			} else {
				dst = e.Number(dst, row.Text, &row.Number)
			}
		}
	}
	return e.End(dst)
}

func (f *Family) isDistribution() bool { return f.Type == expo.Histogram || f.Type == expo.Summary }

// Add adds a series; labels are alternating names and values, in any order.
func (f *Family) Add(row Row, labels ...string) {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names = append(names, labels[i])
	}
	sorted, place := backend.SortLabels(names)
	for i, p := range place {
		row.Labels = append(row.Labels, sorted[i], labels[2*p+1])
		values = append(values, labels[2*p+1])
	}
	text, err := (&backend.Family{Labels: sorted}).LabelText(values...)
	if err != nil {
		panic(err)
	}
	row.Text = text
	f.Rows = append(f.Rows, row)
}

// Expect returns the samples, by Key, that a parser must find on the page in a format. metric and
// label escape names.
func (p Page) Expect(f expo.Format, metric, label func(string) string) map[string]float64 {
	all := make(map[string]float64)
	om := f.Syntax == expo.OpenMetrics0 || f.Syntax == expo.OpenMetrics1
	strict := om || f.Syntax == expo.OpenMetrics2
	for i := range p {
		fam := &p[i]
		name := metric(fam.Name)
		for _, row := range fam.Rows {
			put := func(name string, v float64, extra ...string) {
				var labels []string
				for j := 0; j < len(row.Labels); j += 2 {
					labels = append(labels, label(row.Labels[j]), row.Labels[j+1])
				}
				key := Key(name, append(labels, extra...))
				if _, ok := all[key]; ok {
					panic(key + " is there twice")
				}
				all[key] = v
			}
			created := func(start int64) {
				stem := name
				if fam.Type == expo.Counter {
					stem = strings.TrimSuffix(name, "_total")
				}
				if om && f.Created && start != 0 {
					put(stem+"_created", float64(start)/1e9)
				}
			}
			d := &row.Dist
			switch fam.Type {
			default:
				put(name, row.Number.Value())
			case expo.Counter:
				v := row.Number.Value()
				if strict && !(v >= 0) {
					continue
				}
				if strict {
					v += 0 // no counter is minus zero
				}
				put(name, v)
				if strings.HasSuffix(name, "_total") {
					created(row.Number.Start)
				}
			case expo.Histogram:
				for j, bound := range fam.Bounds {
					put(name+"_bucket", float64(d.Buckets[j]), "le", formatFloat(bound))
				}
				put(name+"_bucket", float64(d.Count), "le", "+Inf")
				if !om || !(len(fam.Bounds) > 0 && fam.Bounds[0] < 0) && d.Sum >= 0 {
					put(name+"_sum", d.Sum)
					put(name+"_count", float64(d.Count))
				}
				created(d.Start)
			case expo.Summary:
				for j, q := range fam.Bounds {
					if !strict || !(d.Quantiles[j] < 0) {
						put(name, d.Quantiles[j], "quantile", formatFloat(q))
					}
				}
				if !om || d.Sum >= 0 {
					put(name+"_sum", d.Sum)
				}
				put(name+"_count", float64(d.Count))
				created(d.Start)
			}
		}
	}
	return all
}

// Key identifies a sample; labels are alternating names and values. Bounds are compared as numbers,
// since parsers format them differently. A label with an empty value is the same as none.
func Key(name string, labels []string) string {
	var list []string
	for i := 0; i < len(labels); i += 2 {
		value := labels[i+1]
		if value == "" {
			continue
		}
		if labels[i] == "le" || labels[i] == "quantile" {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				value = formatFloat(v)
			}
		}
		list = append(list, fmt.Sprintf("%q=%q", labels[i], value))
	}
	slices.Sort(list)
	return strconv.Quote(name) + strings.Join(list, ",")
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Diff describes at most ten differences between samples; "" if there is none. Times have been
// converted to a float.
func Diff(got, want map[string]float64) string {
	var d []string
	for key, v := range want {
		if g, ok := got[key]; !ok {
			d = append(d, fmt.Sprintf("%s = %v is missing", key, v))
		} else if math.Float64bits(g) != math.Float64bits(v) && !(g != g && v != v) && !(strings.Contains(key, `_created"`) && math.Abs(g-v) < 1e-3) {
			d = append(d, fmt.Sprintf("%s = %v, want %v", key, g, v))
		}
	}
	for key, v := range got {
		if _, ok := want[key]; !ok {
			d = append(d, fmt.Sprintf("%s = %v is not expected", key, v))
		}
	}
	slices.Sort(d)
	return strings.Join(d[:min(len(d), 10)], "\n")
}

// validName reports whether text is a valid name.
func validName(s string) bool { return backend.ValidName(s) && utf8.ValidString(s) }
