// Package expo encodes families and series in the formats that Prometheus reads. Encoders append to
// a byte slice, so that a page can be streamed in pieces, and need neither a registry nor HTTP.
package expo

import "strconv"

// Type is the type of a family as a page shows it.
type Type uint8

// The types. Formats that have no infos and state sets show them as gauges.
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
	return [...]string{"untyped", "counter", "gauge", "histogram", "summary", "info", "stateset"}[t]
}

// plain returns the type in formats without infos and state sets.
func (t Type) plain() Type {
	if t == Info || t == StateSet {
		return Gauge
	}
	return t
}

// Syntax is the language that a page is written in.
type Syntax uint8

// The syntaxes.
const (
	Text         Syntax = iota // Prometheus text format 0.0.4
	Text1                      // Prometheus text format 1.0.0, which is 0.0.4 with any UTF-8 as names
	OpenMetrics0               // OpenMetrics 0.0.1
	OpenMetrics1               // OpenMetrics 1.0.0
	OpenMetrics2               // OpenMetrics 2.0.0, an experimental draft (2.0.0-rc0) that may change
	Protobuf                   // io.prometheus.client.MetricFamily, each behind its length
)

// Format is how a page is written. The zero value is the text format 0.0.4, which everybody reads.
type Format struct {
	Syntax   Syntax
	Escaping Escaping // of names; AllowUTF8 means Underscores in Text and OpenMetrics0
	// Created adds, in OpenMetrics 0.0.1 and 1.0, a line with the start time of each series that has one.
	// OpenMetrics 2.0 and protobuf always have start times, text never.
	Created bool
}

// NameEscaping returns what names get in this format.
func (f Format) NameEscaping() Escaping {
	if f.Escaping == AllowUTF8 && (f.Syntax == Text || f.Syntax == OpenMetrics0) {
		return Underscores
	}
	return f.Escaping
}

// ContentType returns what the Content-Type header of a page must say.
func (f Format) ContentType() string {
	s := [...]string{
		Text:         "text/plain; version=0.0.4; charset=utf-8",
		Text1:        "text/plain; version=1.0.0; charset=utf-8",
		OpenMetrics0: "application/openmetrics-text; version=0.0.1; charset=utf-8",
		OpenMetrics1: "application/openmetrics-text; version=1.0.0; charset=utf-8",
		OpenMetrics2: "application/openmetrics-text; version=2.0.0; charset=utf-8",
		Protobuf:     "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
	}[f.Syntax]
	// Older formats do not know the parameter; it is absent unless somebody asked for it.
	if e := f.NameEscaping(); e != Underscores || f.Syntax != Text && f.Syntax != OpenMetrics0 {
		s += "; escaping=" + e.String()
	}
	return s
}

// Family describes the series that follow it. It must be one that backend.Family's Check would accept, and
// its name and those of its samples must not clash with another family's of the page in the page's escaping.
type Family struct {
	Name, Help, Unit string
	Type             Type
	Bounds           []float64 // of a histogram's buckets without +Inf, or a summary's quantiles, ascending
	// ClassicLabels promises that all label names match [a-zA-Z_][a-zA-Z0-9_]*, so that encoders need
	// not look.
	ClassicLabels bool
}

// Number is the value of a series other than a histogram's or summary's: Int + Float. Integers are encoded
// to the last digit.
type Number struct {
	Int      uint64
	Float    float64
	Start    int64    // of a counter, in nanoseconds since 1970: when it began at zero; 0: not known
	Time     int64    // of the value, in nanoseconds since 1970; 0: that of the scrape
	Exemplar Exemplar // of a counter
}

// Distribution is the value of a histogram or summary.
type Distribution struct {
	Count     uint64
	Sum       float64
	Buckets   []uint64   // a histogram's cumulative count at each of the family's bounds
	Exemplars []Exemplar // of a histogram: nil, or one for each of Buckets and at last that of the +Inf bucket
	Native    *Native    // of a histogram: nil, or its exponential buckets
	Quantiles []float64  // a summary's value at each of the family's bounds
	Start     int64      // as in Number
	Time      int64      // as in Number
}

// Native holds the exponential buckets of a histogram, as Prometheus' native histograms have them. All of
// them, with ZeroCount, add up to the Count of the distribution. Protobuf and OpenMetrics 2.0 show them.
type Native struct {
	// Schema is from -4 to 8. The bucket with index i holds values above b^(i-1) and up to b^i, where b is
	// 2^(2^-Schema); those of Negative the same for the values' negations.
	Schema        int32
	ZeroThreshold float64 // values from -ZeroThreshold to ZeroThreshold are in ZeroCount
	ZeroCount     uint64
	Positive      []NativeBucket // ascending by index, without empty ones
	Negative      []NativeBucket // likewise
	Exemplars     []Exemplar     // of whichever buckets
}

// NativeBucket is an exponential bucket that is not empty.
type NativeBucket struct {
	Index int32
	Count uint64 // not cumulative
}

// spans ranges over runs of buckets without a gap: the distance from the run before, or of the first run
// its index, and the buckets.
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

// Exemplar is an example of what a series has counted.
type Exemplar struct {
	// Labels is a label text. If its names and values, as the page has them, have more than 128
	// code points, or two names are the same there, the exemplar is not shown.
	Labels string
	Value  float64
	Time   int64 // nanoseconds since 1970; 0: there is no exemplar
}

// Encoder appends a page to a byte slice: for each family Family and then its series, at last End. After
// that, it is ready for another page. Labels are label texts as backend.Family's LabelText returns them.
// What a format has no place for is left out: exemplars and start times in text, a sum that is NaN or
// negative in OpenMetrics 1.0, and with it the count of a histogram. An Encoder is used by one goroutine,
// and keeps no argument beyond the next call of Family or End. Bytes of a family may be appended later than
// by the call that made them.
type Encoder interface {
	Family(dst []byte, f *Family) []byte
	Number(dst []byte, labels string, n *Number) []byte
	Distribution(dst []byte, labels string, d *Distribution) []byte
	End(dst []byte) []byte
}

// NewEncoder returns an encoder for f. Without a syntax that exists, that is the text format 0.0.4.
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

// AppendFloat appends v in the shortest form that reads back the same, as the text format has it:
// NaN, +Inf, -Inf, and integers without a point.
func AppendFloat(dst []byte, v float64) []byte {
	if isInteger(v) {
		return strconv.AppendInt(dst, int64(v), 10) // several times faster than AppendFloat
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// isInteger reports whether v is an integer, but not minus zero, that every digit of is certain.
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
