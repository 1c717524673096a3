package expo

import (
	"strconv"
	"strings"
)

// textEncoder writes the text format 0.0.4, see
// https://prometheus.io/docs/instrumenting/exposition_formats/.
type textEncoder struct {
	f      *Family
	bounds [][]byte // `le="0.1"} ` or `quantile="0.5"} ` for each of the family's bounds
}

var infBucket = []byte(`le="+Inf"} `)

func (e *textEncoder) Family(dst []byte, f *Family) []byte {
	e.f = f
	dst = append(dst, "# HELP "...)
	dst = append(dst, f.Name...)
	dst = append(dst, ' ')
	dst = appendHelp(dst, f.Help)
	dst = append(dst, "\n# TYPE "...)
	dst = append(dst, f.Name...)
	dst = append(dst, ' ')
	dst = append(dst, f.Type.String()...)
	dst = append(dst, '\n')

	label := `le="`
	if f.Type == Summary {
		label = `quantile="`
	}
	if cap(e.bounds) < len(f.Bounds) {
		e.bounds = make([][]byte, len(f.Bounds))
	}
	e.bounds = e.bounds[:len(f.Bounds)]
	for i, v := range f.Bounds {
		b := append(e.bounds[i][:0], label...)
		// Not AppendFloat: 1e+06 must be the same label value as in other libraries.
		e.bounds[i] = append(strconv.AppendFloat(b, v, 'g', -1, 64), `"} `...)
	}
	return dst
}

func (e *textEncoder) Number(dst []byte, labels string, n Number) []byte {
	dst = append(dst, e.f.Name...)
	dst = appendLabels(dst, labels)
	dst = n.append(dst)
	return append(dst, '\n')
}

func (e *textEncoder) Distribution(dst []byte, labels string, d *Distribution) []byte {
	switch e.f.Type {
	case Histogram:
		for i, bound := range e.bounds {
			dst = e.open(dst, "_bucket", labels)
			dst = append(dst, bound...)
			dst = strconv.AppendUint(dst, d.Buckets[i], 10)
			dst = append(dst, '\n')
		}
		dst = e.open(dst, "_bucket", labels)
		dst = append(dst, infBucket...)
		dst = strconv.AppendUint(dst, d.Count, 10)
		dst = append(dst, '\n')
	case Summary:
		for i, bound := range e.bounds {
			dst = e.open(dst, "", labels)
			dst = append(dst, bound...)
			dst = AppendFloat(dst, d.Quantiles[i])
			dst = append(dst, '\n')
		}
	}
	dst = append(dst, e.f.Name...)
	dst = append(dst, "_sum"...)
	dst = appendLabels(dst, labels)
	dst = AppendFloat(dst, d.Sum)
	dst = append(dst, '\n')
	dst = append(dst, e.f.Name...)
	dst = append(dst, "_count"...)
	dst = appendLabels(dst, labels)
	dst = strconv.AppendUint(dst, d.Count, 10)
	return append(dst, '\n')
}

// open appends a sample's name and labels up to where its bound belongs.
func (e *textEncoder) open(dst []byte, suffix, labels string) []byte {
	dst = append(dst, e.f.Name...)
	dst = append(dst, suffix...)
	dst = append(dst, '{')
	if labels != "" {
		dst = append(dst, labels...)
		dst = append(dst, ',')
	}
	return dst
}

func (e *textEncoder) End(dst []byte) []byte { return dst }

func appendLabels(dst []byte, labels string) []byte {
	if labels == "" {
		return append(dst, ' ')
	}
	dst = append(dst, '{')
	dst = append(dst, labels...)
	return append(dst, "} "...)
}

// appendHelp escapes backslash and line feed, and nothing else.
func appendHelp(dst []byte, help string) []byte {
	for {
		i := strings.IndexAny(help, "\\\n")
		if i < 0 {
			return append(dst, help...)
		}
		dst = append(dst, help[:i]...)
		if help[i] == '\n' {
			dst = append(dst, `\n`...)
		} else {
			dst = append(dst, `\\`...)
		}
		help = help[i+1:]
	}
}
