package expo

import (
	"strconv"
	"strings"
)

// openMetrics2 writes the draft 2.0.0-rc0, see
// https://prometheus.io/docs/specs/om/open_metrics_spec_2_0/. Each series is one line that begins
// with the family's name.
type openMetrics2 struct {
	names
	plain head
}

func (e *openMetrics2) Family(dst []byte, f *Family) []byte {
	e.names.set(f)
	e.plain.set(&e.names, e.name, "")
	typ := f.Type.String()
	switch {
	case f.Type == Untyped:
		typ = "unknown"
	case f.Type == Info && !strings.HasSuffix(e.name, "_info"),
		f.Type == StateSet && e.escaping.LabelName(f.Name) != e.name:
		typ = "gauge"
	}
	return appendMetadata(dst, &e.names, e.name, typ)
}

func (e *openMetrics2) Number(dst []byte, labels string, n *Number) []byte {
	counter := e.family.Type == Counter
	if v := n.Value(); counter && !(v >= 0) {
		return dst
	}
	dst = e.appendSeries(dst, e.plain, labels, tail)
	dst = appendOMNumber(dst, e.family.Type, n)
	dst = appendTime(dst, n.Time)
	if counter {
		dst = e.exemplar(appendStart(dst, n.Start), &n.Exemplar)
	}
	return append(dst, '\n')
}

func appendStart(dst []byte, start int64) []byte {
	if start == 0 {
		return dst
	}
	return appendSeconds(append(dst, " st@"...), start)
}

func (e *openMetrics2) Distribution(dst []byte, labels string, d *Distribution) []byte {
	if d.Native != nil && d.Count > 1<<53 {
		// Parsers read counts as floats, and require that the total is the sum of the
		// others.
		if len(e.family.Bounds) == 0 {
			return dst
		}
		with := *d
		with.Native = nil
		d = &with
	}
	dst = e.appendSeries(dst, e.plain, labels, tail)
	dst = append(dst, "{count:"...)
	dst = strconv.AppendUint(dst, d.Count, 10)
	dst = append(dst, ",sum:"...)
	dst = appendOMFloat(dst, d.Sum)
	if e.family.Type == Histogram {
		dst = e.buckets(dst, d)
	} else {
		dst = e.quantiles(dst, d)
	}
	dst = appendTime(append(dst, '}'), d.Time)
	dst = appendStart(dst, d.Start)
	before := len(dst)
	for i := range d.Exemplars {
		dst = e.exemplar(dst, &d.Exemplars[i])
	}
	// The specification recommends one set of exemplars, that of the classic buckets.
	if d.Native != nil && len(dst) == before {
		for i := range d.Native.Exemplars {
			dst = e.exemplar(dst, &d.Native.Exemplars[i])
		}
	}
	return append(dst, '\n')
}

func (e *openMetrics2) buckets(dst []byte, d *Distribution) []byte {
	if h := d.Native; h != nil {
		dst = append(dst, ",schema:"...)
		dst = strconv.AppendInt(dst, int64(h.Schema), 10)
		dst = append(dst, ",zero_threshold:"...)
		dst = appendOMFloat(dst, h.ZeroThreshold)
		dst = append(dst, ",zero_count:"...)
		dst = strconv.AppendUint(dst, h.ZeroCount, 10)
		dst = appendNative(dst, "negative", h.Negative)
		dst = appendNative(dst, "positive", h.Positive)
		if len(e.family.Bounds) == 0 {
			return dst
		}
	}
	dst = append(dst, ",bucket:["...)
	for i, v := range e.family.Bounds {
		dst = append(appendOMBound(dst, v), ':')
		dst = append(strconv.AppendUint(dst, d.Buckets[i], 10), ',')
	}
	dst = append(dst, "+Inf:"...)
	return append(strconv.AppendUint(dst, d.Count, 10), ']')
}

func appendNative(dst []byte, sign string, list []NativeBucket) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(append(append(dst, ','), sign...), "_spans:["...)
	first := true
	spans(list, func(offset int32, run []NativeBucket) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(strconv.AppendInt(dst, int64(offset), 10), ':')
		dst = strconv.AppendInt(dst, int64(len(run)), 10)
	})
	dst = append(append(append(dst, "],"...), sign...), "_buckets:["...)
	for i, b := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, b.Count, 10)
	}
	return append(dst, ']')
}

func (e *openMetrics2) quantiles(dst []byte, d *Distribution) []byte {
	dst = append(dst, ",quantile:["...)
	first := true
	for i, q := range e.family.Bounds {
		if d.Quantiles[i] < 0 {
			continue // not allowed
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendOMBound(dst, q), ':')
		dst = appendOMFloat(dst, d.Quantiles[i])
	}
	return append(dst, ']')
}

func (e *openMetrics2) End(dst []byte) []byte {
	e.family = nil
	return append(dst, "# EOF\n"...)
}
