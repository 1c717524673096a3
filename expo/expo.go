// Package expo encodes families and series in the formats that Prometheus reads. Encoders append to
// a byte slice, so that a page can be streamed in pieces, and need neither a registry nor HTTP.
//
// The labels of a series are passed as label text, which is what the text format has between the
// braces, such as
//
//	method="GET",route="/"
//
// and the empty string if there are none. Names that do not match [a-zA-Z_][a-zA-Z0-9_]* are in
// double quotes. In values and quoted names, a backslash, a double quote and a line feed are
// escaped as \\, \" and \n.
package expo

import (
	"fmt"
	"strconv"
)

// Type is the type of a family on a page.
type Type uint8

// Types. Formats without infos and state sets show these as gauges.
const (
	Untyped Type = iota
	Counter
	Gauge
	Histogram
	Summary
	Info     // values are 1; the name ends in _info
	StateSet // values are 0 or 1; the state is the value of a label with the family's name
)

func (t Type) String() string {
	names := [...]string{"untyped", "counter", "gauge", "histogram", "summary", "info", "stateset"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// plain returns the type in formats without infos and state sets.
func (t Type) plain() Type {
	if t == Info || t == StateSet {
		return Gauge
	}
	return t
}

// Syntax is the syntax of a page.
type Syntax uint8

// Syntaxes.
const (
	Text         Syntax = iota // Prometheus text format 0.0.4
	Text1                      // Prometheus text format 1.0.0: 0.0.4 with UTF-8 names
	OpenMetrics0               // OpenMetrics 0.0.1
	OpenMetrics1               // OpenMetrics 1.0.0
	// OpenMetrics 2.0.0, an experimental draft (2.0.0-rc0) that may change
	OpenMetrics2
	// io.prometheus.client.MetricFamily messages, each preceded by its length
	Protobuf
)

// Format is the format of a page. The zero value is the text format 0.0.4, which every scraper
// understands.
type Format struct {
	Syntax   Syntax
	Escaping Escaping // of names; AllowUTF8 means Underscores in Text and OpenMetrics0
	// Created adds, in OpenMetrics 0.0.1 and 1.0, a line with the start time of each series
	// that has one. OpenMetrics 2.0 and protobuf always have start times, text never.
	Created bool
}

// NameEscaping returns the escaping of names in this format.
func (f Format) NameEscaping() Escaping {
	if f.Escaping == AllowUTF8 && (f.Syntax == Text || f.Syntax == OpenMetrics0) {
		return Underscores
	}
	return f.Escaping
}

// ContentType returns the value of a page's Content-Type header.
func (f Format) ContentType() string {
	if f.Syntax > Protobuf {
		f.Syntax = Text // as NewEncoder does
	}
	s := [...]string{
		Text:         "text/plain; version=0.0.4; charset=utf-8",
		Text1:        "text/plain; version=1.0.0; charset=utf-8",
		OpenMetrics0: "application/openmetrics-text; version=0.0.1; charset=utf-8",
		OpenMetrics1: "application/openmetrics-text; version=1.0.0; charset=utf-8",
		OpenMetrics2: "application/openmetrics-text; version=2.0.0; charset=utf-8",
		Protobuf:     "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
	}[f.Syntax]
	// Older formats do not have the parameter; it is omitted unless it was requested.
	if e := f.NameEscaping(); e != Underscores || f.Syntax != Text && f.Syntax != OpenMetrics0 {
		s += "; escaping=" + e.String()
	}
	return s
}

// Family describes the series that follow it. Encoders do not check it: pages that parsers accept
// take a name that is UTF-8 without control characters, a help text that is UTF-8, and a unit, if
// there is one, that the name ends in (before _total). In the page's escaping, its name and those
// of its samples must not clash with those of another family on the page.
type Family struct {
	Name string // of a counter with _total, of an info with _info
	Help string
	Unit string // such as "seconds"; "": none
	Type Type
	// Bounds are the upper bounds of a histogram's buckets without +Inf, or a summary's
	// quantiles, in ascending order. Other types have none.
	Bounds []float64
	// ClassicLabels asserts that all label names match [a-zA-Z_][a-zA-Z0-9_]*, so that encoders
	// need not check.
	ClassicLabels bool
}

// Number is the value of a series that is not a histogram or summary: Int + Float. Integers are
// encoded exactly.
type Number struct {
	Int   uint64
	Float float64
	// Start is when a counter began at zero, in nanoseconds since 1970; 0: it is unknown.
	Start int64
	// Time is that of the value, in nanoseconds since 1970; 0: it is the time of the scrape.
	Time     int64
	Exemplar Exemplar // of a counter
}

// Distribution is the value of a histogram or summary.
type Distribution struct {
	Count   uint64
	Sum     float64
	Buckets []uint64 // a histogram's cumulative count at each of the family's bounds
	// Exemplars of a histogram are nil, or one for each of Buckets and then one for the +Inf
	// bucket.
	Exemplars []Exemplar
	Native    *Native   // of a histogram: nil, or its exponential buckets
	Quantiles []float64 // a summary's value at each of the family's bounds
	Start     int64     // as in Number
	Time      int64     // as in Number
}

// Native holds the exponential buckets of a histogram, as in Prometheus' native histograms.
// Together with ZeroCount, they add up to the distribution's Count. Protobuf and OpenMetrics 2.0
// show them.
type Native struct {
	// Schema is from -4 to 8. The bucket with index i holds values above b^(i-1) and up to b^i,
	// where b is 2^(2^-Schema). Those of Negative hold negative values, by their negations.
	Schema        int32
	ZeroThreshold float64 // values from -ZeroThreshold to ZeroThreshold are in ZeroCount
	ZeroCount     uint64
	Positive      []NativeBucket // ascending by index, without empty ones
	Negative      []NativeBucket // likewise
	// Exemplars are of any buckets. Those that Distribution.Exemplars has need not be repeated:
	// readers take these if there are no others, and OpenMetrics 2.0 shows only one of the two.
	Exemplars []Exemplar
}

// NativeBucket is an exponential bucket that is not empty.
type NativeBucket struct {
	Index int32
	Count uint64 // not cumulative
}

// spans iterates over runs of consecutive buckets. It yields the distance from the previous run, or
// the index of the first run, and the buckets.
func spans(list []NativeBucket, yield func(offset int32, run []NativeBucket)) {
	next := int32(0)
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Index == list[n-1].Index+1 {
			n++
		}
		yield(list[0].Index-next, list[:n])
		next = list[n-1].Index + 1
		list = list[n:]
	}
}

// Exemplar is an example of an event that a series has counted.
type Exemplar struct {
	// Labels is label text, see the package documentation. The exemplar is omitted if, in the
	// page's escaping, its names and values have more than 128 code points in total or two
	// names are equal.
	Labels string
	Value  float64
	Time   int64 // nanoseconds since 1970; 0: there is no exemplar
}

// Encoder appends a page to a byte slice: call Family for each family and then Number or
// Distribution for each of its series, and End at the end, after which it is ready for another
// page. It omits what a format does not support: exemplars and start times in text; in OpenMetrics
// 1.0 a sum that is NaN or negative, and with it the count of a histogram. An Encoder is not safe
// for concurrent use, and keeps no argument beyond the next call of Family or End. It may append
// the bytes of a family in a later call than the one for the series.
type Encoder interface {
	// Family begins a family.
	Family(dst []byte, f *Family) []byte
	// Number appends a series of a family that is neither a histogram nor a summary. Labels are
	// label text, see the package documentation.
	Number(dst []byte, labels string, n *Number) []byte
	// Distribution appends a series of a histogram or summary.
	Distribution(dst []byte, labels string, d *Distribution) []byte
	// End ends the page.
	End(dst []byte) []byte
}

// NewEncoder returns an encoder for f. If its syntax is unknown, it uses the text format 0.0.4.
func NewEncoder(f Format) Encoder {
	n := names{escaping: f.NameEscaping()}
	switch f.Syntax {
	case OpenMetrics0, OpenMetrics1:
		return &openMetrics{names: n, created: f.Created}
	case OpenMetrics2:
		return &openMetrics2{names: n}
	case Protobuf:
		return &protobuf{names: n}
	}
	return &text{names: n}
}

// AppendFloat appends v in the shortest form that reads back as v, in the syntax of the text
// format: NaN, +Inf, -Inf, and integers without a decimal point.
func AppendFloat(dst []byte, v float64) []byte {
	if isInteger(v) {
		return strconv.AppendInt(dst, int64(v), 10) // several times faster than AppendFloat
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// isInteger reports whether v is an integer, other than minus zero, that a float64 represents
// exactly.
func isInteger(v float64) bool {
	return v >= -1<<53 && v <= 1<<53 && v == float64(int64(v)) && (v != 0 || 1/v > 0)
}

func (n *Number) append(dst []byte) []byte {
	if n.Int != 0 && n.Float == 0 {
		return strconv.AppendUint(dst, n.Int, 10)
	}
	return AppendFloat(dst, n.Value())
}

// Value returns n as a float64, which rounds integers above 2^53.
func (n *Number) Value() float64 {
	if n.Int == 0 {
		return n.Float // also minus zero
	}
	return float64(n.Int) + n.Float
}
