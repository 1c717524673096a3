// Package expo encodes families and series in the formats that Prometheus reads. Encoders append to
// a byte slice, so that a page can be streamed in pieces, and need neither a registry nor HTTP.
package expo

import "strconv"

// Type is the type of a family as a page shows it.
type Type uint8

// The types.
const (
	Untyped Type = iota
	Counter
	Gauge
	Histogram
	Summary
)

func (t Type) String() string {
	return [...]string{"untyped", "counter", "gauge", "histogram", "summary"}[t]
}

// Format is a format of pages.
type Format uint8

// The formats.
const (
	Text Format = iota // Prometheus text format 0.0.4
)

// ContentType returns what the Content-Type header of a page must say.
func (f Format) ContentType() string { return "text/plain; version=0.0.4; charset=utf-8" }

// Family describes the series that follow it. Names and label names must be valid, see
// backend.ValidName.
type Family struct {
	Name, Help, Unit string
	Type             Type
	Bounds           []float64 // of a histogram's buckets without +Inf, or a summary's quantiles, ascending
}

// Number is the value of a counter, gauge or untyped series: Int + Float. Integers are encoded to the
// last digit.
type Number struct {
	Int   uint64
	Float float64
}

// Distribution is the value of a histogram or summary.
type Distribution struct {
	Count     uint64
	Sum       float64
	Buckets   []uint64  // a histogram's cumulative count at each of the family's bounds
	Quantiles []float64 // a summary's value at each of the family's bounds
}

// Encoder appends a page to a byte slice: for each family Family and then its series, at last End.
// Labels are label texts as backend.Family's LabelText returns them. An Encoder is used for one page,
// by one goroutine.
type Encoder interface {
	Family(dst []byte, f *Family) []byte
	Number(dst []byte, labels string, n Number) []byte
	Distribution(dst []byte, labels string, d *Distribution) []byte
	End(dst []byte) []byte
}

// NewEncoder returns an encoder for f.
func NewEncoder(f Format) Encoder { return new(textEncoder) }

// AppendFloat appends v in the shortest form that reads back the same, as the text format has it:
// NaN, +Inf, -Inf, and integers without a point.
func AppendFloat(dst []byte, v float64) []byte {
	if v >= -1<<53 && v <= 1<<53 && v == float64(int64(v)) && (v != 0 || 1/v > 0) {
		return strconv.AppendInt(dst, int64(v), 10) // several times faster than AppendFloat
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

func (n Number) append(dst []byte) []byte {
	if n.Int != 0 && n.Float == 0 {
		return strconv.AppendUint(dst, n.Int, 10)
	}
	return AppendFloat(dst, n.Value())
}

// Value returns n as a float64, which rounds integers above 2^53.
func (n Number) Value() float64 {
	if n.Int == 0 {
		return n.Float // also minus zero
	}
	return float64(n.Int) + n.Float
}
