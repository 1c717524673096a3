package expo

import (
	"strconv"

	"github.com/gotheus/gotheus/internal/labeltext"
)

// text writes the text formats 0.0.4 and 1.0.0, see
// https://prometheus.io/docs/instrumenting/exposition_formats/.
type text struct {
	names
	heads
	bounds boundLabels
}

// heads are those of a family's samples.
type heads struct{ plain, bucket, sum, count head }

func (h *heads) set(n *names) {
	h.plain.set(n, n.name, "")
	if t := n.family.Type; t == Histogram || t == Summary {
		h.bucket.set(n, n.name, "_bucket")
		h.sum.set(n, n.name, "_sum")
		h.count.set(n, n.name, "_count")
	}
}

// boundLabels are the ends of samples' labels, like `,le="0.1"} `, one for each of a family's
// bounds.
type boundLabels [][]byte

var infBucket = []byte(`,le="+Inf"} `)

// set formats the bounds once for all series of a family.
func (l *boundLabels) set(f *Family, appendBound func([]byte, float64) []byte) {
	label := `,le="`
	if f.Type == Summary {
		label = `,quantile="`
	}
	list := *l
	if cap(list) < len(f.Bounds) {
		list = make([][]byte, len(f.Bounds))
	}
	list = list[:len(f.Bounds)]
	for i, v := range f.Bounds {
		b := append(list[i][:0], label...)
		list[i] = append(appendBound(b, v), `"} `...)
	}
	*l = list
}

// appendBound differs from AppendFloat, so that 1e+06 is the same label value as in other
// libraries.
func appendBound(dst []byte, v float64) []byte { return strconv.AppendFloat(dst, v, 'g', -1, 64) }

func (e *text) Family(dst []byte, f *Family) []byte {
	e.names.set(f)
	e.heads.set(&e.names)
	dst = append(dst, "# HELP "...)
	dst = e.appendName(dst, e.name)
	dst = append(dst, ' ')
	dst = labeltext.Append(dst, f.Help, false)
	dst = append(dst, "\n# TYPE "...)
	dst = e.appendName(dst, e.name)
	dst = append(dst, ' ')
	dst = append(dst, f.Type.plain().String()...)
	e.bounds.set(f, appendBound)
	return append(dst, '\n')
}

func (e *text) Number(dst []byte, labels string, n *Number) []byte {
	if e.verbatim && labels != "" { // the common case
		dst = append(append(dst, e.plain...), labels...)
		dst = append(dst, "} "...)
	} else {
		dst = e.appendSeries(dst, e.plain, labels, tail)
	}
	dst = n.append(dst)
	if n.Time != 0 {
		dst = appendMillis(dst, n.Time)
	}
	return append(dst, '\n')
}

func (e *text) Distribution(dst []byte, labels string, d *Distribution) []byte {
	switch e.family.Type {
	case Histogram:
		opened, first := e.open(dst, e.bucket, labels)
		// all buckets begin with the same bytes
		dst, opened = opened[:len(dst)], opened[len(dst):]
		for i, bound := range e.bounds {
			dst = append(append(dst, opened...), bound[first:]...)
			dst = strconv.AppendUint(dst, d.Buckets[i], 10)
			if d.Time != 0 {
				dst = appendMillis(dst, d.Time)
			}
			dst = append(dst, '\n')
		}
		dst = append(append(dst, opened...), infBucket[first:]...)
		dst = endInteger(dst, d.Count, d.Time)
	case Summary:
		for i, bound := range e.bounds {
			dst = e.float(dst, e.plain, labels, bound, d.Quantiles[i], d.Time)
		}
	}
	dst = e.float(dst, e.sum, labels, tail, d.Sum, d.Time)
	return endInteger(e.appendSeries(dst, e.count, labels, tail), d.Count, d.Time)
}

// endInteger appends a value and a time, and ends the line.
func endInteger(dst []byte, v uint64, time int64) []byte {
	dst = strconv.AppendUint(dst, v, 10)
	if time != 0 {
		dst = appendMillis(dst, time)
	}
	return append(dst, '\n')
}

func (e *text) float(dst []byte, h head, labels string, tail []byte, v float64, time int64) []byte {
	dst = AppendFloat(e.appendSeries(dst, h, labels, tail), v)
	if time != 0 {
		dst = appendMillis(dst, time)
	}
	return append(dst, '\n')
}

func (e *text) End(dst []byte) []byte {
	e.family = nil
	return dst
}

// appendMillis appends a space and a time in milliseconds.
func appendMillis(dst []byte, time int64) []byte {
	return strconv.AppendInt(append(dst, ' '), time/1e6, 10)
}
