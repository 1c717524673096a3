package page

import (
	"slices"
	"strconv"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/word"
)

// encodeParts appends a series of which each process has its own part.
func (p *Page) encodeParts(dst []byte, e expo.Encoder, f *backend.Family, labels string, parts []backend.Part) []byte {
	if f.Mode != backend.PerInstance {
		if v, ok := backend.MergeParts(f.Mode, parts); ok && (v != 0 || f.Kind != backend.Info) {
			dst = p.value(dst, e, f, labels, v)
		}
		return dst
	}
	for i := range parts {
		part := &parts[i]
		if !part.Live() || f.Sealed(part.Words) {
			continue
		}
		labels := labels
		switch p.only {
		case nil:
			labels = processLabels(labels, part.Instance)
		case part.Instance:
		default:
			continue
		}
		switch f.Kind {
		case backend.Histogram:
			p.Histogram(&p.dist, f, part.Words)
		case backend.Summary:
			Summary(&p.dist, part.Words)
			p.dist.Quantiles = slices.Grow(p.dist.Quantiles[:0], len(f.Buckets))[:len(f.Buckets)]
			for j := range f.Buckets {
				p.dist.Quantiles[j] = word.Float(&part.Words[backend.SummaryQuantiles+j])
			}
		default:
			dst = p.value(dst, e, f, labels, word.Float(&part.Words[backend.GaugeValue]))
			continue
		}
		dst = e.Distribution(dst, labels, &p.dist)
	}
	return dst
}

// processLabels adds the process's label to the label text of a series.
func processLabels(labels string, i *backend.Instance) string {
	if i.Number < 0 {
		return labels
	}
	return backend.AppendLabel(labels, backend.InstanceLabel, strconv.Itoa(i.Number))
}

// encodeStates appends a series for each state of a state set. Bit i of on says whether state i is
// on.
func encodeStates(dst []byte, e expo.Encoder, f *backend.Family, labels string, on uint64) []byte {
	for i, name := range f.States {
		n := expo.Number{Int: on >> i & 1}
		dst = e.Number(dst, backend.AppendLabel(labels, f.Name, name), &n)
	}
	return dst
}
