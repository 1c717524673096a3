package expo

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/gotheus/gotheus/internal/labeltext"
)

// protobuf writes messages io.prometheus.client.MetricFamily, each preceded by its length as a
// varint, see
// https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto. Since
// the length comes first, a message is completed before any of it is appended. To bound memory, a
// family larger than messageSize is split into several messages with the same head.
type protobuf struct {
	names
	message []byte // of the family
	head    int    // size of what precedes the series
	scratch []byte
}

const messageSize = 512 << 10

// Types of a MetricFamily.
var protobufTypes = [...]uint64{Untyped: 3, Counter: 0, Gauge: 1, Histogram: 4, Summary: 2, Info: 1, StateSet: 1}

func (e *protobuf) Family(dst []byte, f *Family) []byte {
	dst = e.send(dst)
	e.set(f)
	b := appendBytes(e.message[:0], 1, e.name)
	b = appendBytes(b, 2, f.Help)
	b = appendUint(b, 3, protobufTypes[f.Type])
	if f.Unit != "" {
		b = appendBytes(b, 5, f.Unit)
	}
	e.message, e.head = b, len(b)
	return dst
}

// send appends the message, unless it is empty.
func (e *protobuf) send(dst []byte) []byte {
	if e.family == nil {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.message)))
	return append(dst, e.message...)
}

func (e *protobuf) End(dst []byte) []byte {
	dst = e.send(dst)
	e.family = nil
	return dst
}

// begin starts the Metric of a series, after sending the message if it is too large.
func (e *protobuf) begin(dst []byte, labels string) (after []byte, start int) {
	if len(e.message) > messageSize {
		dst = e.send(dst)
		e.message = e.message[:e.head]
	}
	e.message, start = open(e.message, 4)
	e.message = e.appendPairs(e.message, labels)
	return dst, start
}

func (e *protobuf) end(start int, time int64) {
	if time != 0 {
		e.message = appendUint(e.message, 6, uint64(time/1e6))
	}
	e.message = closeMessage(e.message, start)
}

// appendPairs appends a LabelPair for each label of a text.
func (e *protobuf) appendPairs(b []byte, labels string) []byte {
	for labels != "" {
		name, value, rest, ok := labeltext.Cut(labels)
		if !ok {
			return b
		}
		var start int
		b, start = open(b, 1)
		if e.escaping == AllowUTF8 {
			b = appendBytes(b, 1, name)
		} else {
			e.scratch = e.escaping.append(e.scratch[:0], name, false)
			b = appendBytes(b, 1, e.scratch)
		}
		e.scratch = labeltext.AppendUnescaped(e.scratch[:0], value)
		b = appendBytes(b, 2, e.scratch)
		b = closeMessage(b, start)
		labels = rest
	}
	return b
}

func (e *protobuf) Number(dst []byte, labels string, n *Number) []byte {
	dst, metric := e.begin(dst, labels)
	field := uint64(2)
	switch e.family.Type {
	case Counter:
		field = 3
	case Untyped:
		field = 5
	}
	b, start := open(e.message, field)
	b = appendDouble(b, 1, n.Value())
	if e.family.Type == Counter {
		b = e.appendExemplar(b, 2, &n.Exemplar)
		b = appendTimestamp(b, 3, n.Start)
	}
	e.message = closeMessage(b, start)
	e.end(metric, n.Time)
	return dst
}

func (e *protobuf) Distribution(dst []byte, labels string, d *Distribution) []byte {
	dst, metric := e.begin(dst, labels)
	if e.family.Type == Histogram {
		e.histogram(d)
	} else {
		e.summary(d)
	}
	e.end(metric, d.Time)
	return dst
}

func (e *protobuf) summary(d *Distribution) {
	b, start := open(e.message, 4)
	b = appendUint(b, 1, d.Count)
	b = appendDouble(b, 2, d.Sum)
	for i, q := range e.family.Bounds {
		var quantile int
		b, quantile = open(b, 3)
		b = appendDouble(b, 1, q)
		b = appendDouble(b, 2, d.Quantiles[i])
		b = closeMessage(b, quantile)
	}
	b = appendTimestamp(b, 4, d.Start)
	e.message = closeMessage(b, start)
}

func (e *protobuf) histogram(d *Distribution) {
	b, start := open(e.message, 7)
	b = appendUint(b, 1, d.Count)
	b = appendDouble(b, 2, d.Sum)
	if d.Native == nil || len(e.family.Bounds) > 0 {
		for i, bound := range e.family.Bounds {
			b = e.appendBucket(b, d, i, bound, d.Buckets[i])
		}
		b = e.appendBucket(b, d, len(e.family.Bounds), math.Inf(1), d.Count)
	}
	if h := d.Native; h != nil {
		b = appendUint(b, 5, zigzag(int64(h.Schema)))
		b = appendDouble(b, 6, h.ZeroThreshold)
		b = appendUint(b, 7, h.ZeroCount)
		b = appendSpans(b, 9, 10, h.Negative)
		b = appendSpans(b, 12, 13, h.Positive)
		if len(h.Negative)+len(h.Positive) == 0 {
			// an empty span tells readers that the histogram is a native one
			b = append(b, 12<<3|2, 0)
		}
		for i := range h.Exemplars {
			b = e.appendExemplar(b, 16, &h.Exemplars[i])
		}
	}
	b = appendTimestamp(b, 15, d.Start)
	e.message = closeMessage(b, start)
}

func (e *protobuf) appendBucket(b []byte, d *Distribution, i int, bound float64, cumulative uint64) []byte {
	b, start := open(b, 3)
	b = appendUint(b, 1, cumulative)
	b = appendDouble(b, 2, bound)
	if i < len(d.Exemplars) {
		b = e.appendExemplar(b, 3, &d.Exemplars[i])
	}
	return closeMessage(b, start)
}

// appendSpans appends the positions of buckets, and each count as the difference from the previous
// one.
func appendSpans(b []byte, spanField, deltaField uint64, list []NativeBucket) []byte {
	spans(list, func(offset int32, run []NativeBucket) {
		var start int
		b, start = open(b, spanField)
		b = appendUint(b, 1, zigzag(int64(offset)))
		b = appendUint(b, 2, uint64(len(run)))
		b = closeMessage(b, start)
	})
	before := uint64(0)
	for i := range list {
		b = appendUint(b, deltaField, zigzag(int64(list[i].Count-before)))
		before = list[i].Count
	}
	return b
}

func (e *protobuf) appendExemplar(b []byte, field uint64, x *Exemplar) []byte {
	if x.Time == 0 || !e.shows(x.Labels) {
		return b
	}
	b, start := open(b, field)
	b = e.appendPairs(b, x.Labels)
	b = appendDouble(b, 2, x.Value)
	b = appendTimestamp(b, 3, x.Time)
	return closeMessage(b, start)
}

// appendTimestamp appends a google.protobuf.Timestamp, unless ns is 0.
func appendTimestamp(b []byte, field uint64, ns int64) []byte {
	if ns == 0 {
		return b
	}
	seconds, nanos := ns/1e9, ns%1e9
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+1e9
	}
	b, start := open(b, field)
	b = appendUint(b, 1, uint64(seconds))
	b = appendUint(b, 2, uint64(nanos))
	return closeMessage(b, start)
}

// The wire format: a field is its number and wire type, and its content.

func appendUint(b []byte, field, v uint64) []byte {
	return binary.AppendUvarint(append(b, byte(field<<3)), v)
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func appendDouble(b []byte, field uint64, v float64) []byte {
	return binary.LittleEndian.AppendUint64(append(b, byte(field<<3|1)), math.Float64bits(v))
}

func appendBytes[S string | []byte](b []byte, field uint64, s S) []byte {
	b = binary.AppendUvarint(append(b, byte(field<<3|2)), uint64(len(s)))
	return append(b, s...)
}

// open starts a nested message. The byte that it reserves for the length is usually enough.
func open(b []byte, field uint64) (after []byte, start int) {
	b = binary.AppendUvarint(b, field<<3|2)
	return append(b, 0), len(b) + 1
}

// closeMessage writes the length of the message that began at start.
func closeMessage(b []byte, start int) []byte {
	n := uint64(len(b) - start)
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], n)
	b = slices.Insert(b, start, length[1:size]...)
	b[start-1] = length[0]
	return b
}
