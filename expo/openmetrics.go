package expo

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gotheus/gotheus/internal/labeltext"
)

// openMetrics writes OpenMetrics 0.0.1 and 1.0.0, see
// https://prometheus.io/docs/specs/om/open_metrics_spec/.
type openMetrics struct {
	names
	heads
	created  bool
	begun    head // of the lines with start times
	bounds   boundLabels
	stem     string // the family's name: without _total or _info
	typ      string
	negative bool // there are negative bounds, so sums can decrease
}

func (e *openMetrics) Family(dst []byte, f *Family) []byte {
	e.names.set(f)
	e.heads.set(&e.names)
	e.stem, e.typ = e.name, f.Type.String()
	e.negative = f.Type == Histogram && len(f.Bounds) > 0 && f.Bounds[0] < 0
	switch f.Type {
	case Untyped:
		e.typ = "unknown"
	case Counter:
		// Counters' samples must end in _total. One that does not keeps its name, so that
		// it is the same in all formats, but is shown without a type.
		var ok bool
		if e.stem, ok = strings.CutSuffix(e.name, "_total"); !ok {
			e.typ = "unknown"
		}
	case Info:
		var ok bool
		if e.stem, ok = strings.CutSuffix(e.name, "_info"); !ok {
			e.typ = "gauge"
		}
	case StateSet:
		if e.escaping.LabelName(f.Name) != e.name {
			e.typ = "gauge" // the state's label must have the family's name
		}
	}
	e.begun.set(&e.names, e.stem, "_created")
	dst = appendMetadata(dst, &e.names, e.stem, e.typ)
	e.bounds.set(f, appendOMBound)
	return dst
}

// appendMetadata appends a family's comment lines.
func appendMetadata(dst []byte, n *names, name, typ string) []byte {
	dst = append(dst, "# TYPE "...)
	dst = n.appendName(dst, name)
	dst = append(dst, ' ')
	dst = append(dst, typ...)
	if unit := n.family.Unit; classic(unit, true) && typ != "info" && typ != "stateset" {
		// With the escaping Dots, the name may no longer end in the unit.
		if base, ok := strings.CutSuffix(strings.TrimSuffix(name, "_total"), unit); ok && strings.HasSuffix(base, "_") {
			dst = append(dst, "\n# UNIT "...)
			dst = n.appendName(dst, name)
			dst = append(dst, ' ')
			dst = append(dst, unit...)
		}
	}
	dst = append(dst, "\n# HELP "...)
	dst = n.appendName(dst, name)
	dst = append(dst, ' ')
	dst = labeltext.Append(dst, withoutReturns(n.family.Help), true)
	return append(dst, '\n')
}

// withoutReturns replaces carriage returns by line feeds, since a help text must not contain them
// and they cannot be escaped.
func withoutReturns(help string) string {
	if !strings.Contains(help, "\r") {
		return help
	}
	return strings.ReplaceAll(strings.ReplaceAll(help, "\r\n", "\n"), "\r", "\n")
}

func (e *openMetrics) Number(dst []byte, labels string, n *Number) []byte {
	counter := e.family.Type == Counter
	if v := n.Value(); counter && !(v >= 0) {
		return dst // neither NaN nor negative values are allowed
	}
	dst = e.appendSeries(dst, e.plain, labels, tail)
	dst = appendOMNumber(dst, e.family.Type, n)
	dst = appendTime(dst, n.Time)
	if e.typ != "counter" {
		return append(dst, '\n')
	}
	dst = e.exemplar(dst, &n.Exemplar)
	dst = append(dst, '\n')
	return e.start(dst, labels, n.Start, n.Time)
}

// appendOMNumber appends a value; integers that count something, and yes and no, have no point.
func appendOMNumber(dst []byte, t Type, n *Number) []byte {
	switch {
	case n.Float == 0 && (n.Int != 0 || t == Counter):
		return strconv.AppendUint(dst, n.Int, 10)
	case t == Info || t == StateSet:
		return AppendFloat(dst, n.Value())
	}
	return appendOMFloat(dst, n.Value())
}

func (e *openMetrics) Distribution(dst []byte, labels string, d *Distribution) []byte {
	sum := !e.negative && d.Sum >= 0 // and not NaN
	count := true
	switch e.family.Type {
	case Histogram:
		for i, bound := range e.bounds {
			dst = e.appendBucket(dst, labels, bound, d.Buckets[i], i, d)
		}
		dst = e.appendBucket(dst, labels, infBucket, d.Count, len(e.bounds), d)
		count = sum // count and sum must occur together
	case Summary:
		for i, bound := range e.bounds {
			if v := d.Quantiles[i]; !(v < 0) { // NaN is allowed
				dst = e.appendSeries(dst, e.plain, labels, bound)
				dst = append(appendTime(appendOMFloat(dst, v), d.Time), '\n')
			}
		}
	}
	if sum {
		dst = e.appendSeries(dst, e.sum, labels, tail)
		dst = append(appendTime(appendOMFloat(dst, d.Sum), d.Time), '\n')
	}
	if count {
		dst = e.appendSeries(dst, e.count, labels, tail)
		dst = append(appendTime(strconv.AppendUint(dst, d.Count, 10), d.Time), '\n')
	}
	return e.start(dst, labels, d.Start, d.Time)
}

func (e *openMetrics) appendBucket(dst []byte, labels string, bound []byte, v uint64, i int, d *Distribution) []byte {
	dst = e.appendSeries(dst, e.bucket, labels, bound)
	dst = appendTime(strconv.AppendUint(dst, v, 10), d.Time)
	if i < len(d.Exemplars) {
		dst = e.exemplar(dst, &d.Exemplars[i])
	}
	return append(dst, '\n')
}

// start appends the line with the start time of the series.
func (e *openMetrics) start(dst []byte, labels string, start, time int64) []byte {
	if !e.created || start == 0 {
		return dst
	}
	dst = e.appendSeries(dst, e.begun, labels, tail)
	return append(appendTime(appendSeconds(dst, start), time), '\n')
}

// exemplar appends an exemplar if it exists and can be shown.
func (n *names) exemplar(dst []byte, x *Exemplar) []byte {
	if x.Time == 0 || !n.shows(x.Labels) {
		return dst
	}
	dst = append(dst, " # {"...)
	dst = n.appendLabels(dst, x.Labels)
	dst = append(dst, "} "...)
	return appendTime(appendOMFloat(dst, x.Value), x.Time)
}

// shows reports whether an exemplar with these labels can be shown: as written on the page, names
// and values have at most 128 code points in total, no name occurs twice, and none is that of the
// metric name's label.
func (n *names) shows(labels string) bool {
	asTheyAre := n.escaping == AllowUTF8 || n.escaping != Dots && !mayQuote(labels)
	if asTheyAre && len(labels) <= 128 {
		return true
	}
	var few [8]string
	names, runes := few[:0], 0
	for labels != "" {
		name, value, rest, ok := labeltext.Cut(labels)
		name = n.escaping.LabelName(name)
		if !ok || name == "__name__" || slices.Contains(names, name) {
			return false
		}
		names = append(names, name)
		runes += utf8.RuneCountInString(name) + utf8.RuneCountInString(labeltext.Unescape(value))
		labels = rest
	}
	return runes <= 128
}

func (e *openMetrics) End(dst []byte) []byte {
	e.family = nil
	return append(dst, "# EOF\n"...)
}

// appendOMFloat appends v in a form that differs from an integer.
func appendOMFloat(dst []byte, v float64) []byte {
	if isInteger(v) {
		return append(strconv.AppendInt(dst, int64(v), 10), ".0"...)
	}
	return appendOMBound(dst, v)
}

// appendOMBound appends v in the canonical form of OpenMetrics.
func appendOMBound(dst []byte, v float64) []byte {
	start := len(dst)
	dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return dst
	}
	for _, c := range dst[start:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// appendTime appends a space and a time, unless it is 0.
func appendTime(dst []byte, time int64) []byte {
	if time == 0 {
		return dst
	}
	return appendSeconds(append(dst, ' '), time)
}

// appendSeconds appends a time in seconds with all digits, more than a float64 holds.
func appendSeconds(dst []byte, ns int64) []byte {
	if ns < 0 {
		dst = append(dst, '-')
		ns = max(-ns, 0) // the minimum has no positive counterpart
	}
	dst = strconv.AppendInt(dst, ns/1e9, 10)
	dst = append(dst, '.')
	rest := ns % 1e9
	for digit := int64(1e8); ; digit /= 10 {
		dst = append(dst, '0'+byte(rest/digit))
		if rest %= digit; rest == 0 {
			return dst
		}
	}
}
