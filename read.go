package gotheus

import (
	"math"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/gotheus/gotheus/expo"
	"github.com/gotheus/gotheus/internal/backend"
)

// Reading living words.

// distribution is a histogram's or summary's value as read from its words.
type distribution = expo.Distribution

// loadInt and loadFloat read a word; one that is sealed counts as zero.

func loadInt(w *atomic.Uint64) uint64 {
	if n := w.Load(); n < backend.SealedInt {
		return n
	}
	return 0
}

func loadFloat(w *atomic.Uint64) float64 {
	if bits := w.Load(); bits != backend.SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}

// touched is how many series are touched at once.
const touched = 32

// touch reads a little of each of some series that are about to be read, so that the processor waits for the memory of
// all of them at the same time: rows, texts and words of many series are in no order, and in no cache.
func (p *scratch) touch(list []*backend.Series) {
	for _, s := range list {
		p.touched += uint64(len(s.Labels))
	}
	for _, s := range list {
		if n := len(s.Labels); n > 0 {
			p.touched += uint64(s.Labels[n-1])
		}
		if n := len(s.Words); n > 0 {
			p.touched += s.Words[n-1].Load()
		}
	}
}

func readStart(f *backend.Family, w backend.Words) int64 {
	if start := f.Start(w); start != nil {
		return int64(loadInt(start))
	}
	return 0
}

func readCounter(f *backend.Family, w backend.Words) (whole uint64, rest float64) {
	if f.Stripes != 0 {
		return readStripes(f, w)
	}
	return loadInt(&w[backend.CounterInt]), loadFloat(&w[backend.CounterFloat])
}

func readStripes(f *backend.Family, w backend.Words) (whole uint64, rest float64) {
	for each := f.StripeWords(); len(w) > 0; w = w[each:] {
		n := loadInt(&w[backend.CounterInt])
		rest += loadFloat(&w[backend.CounterFloat])
		if whole += n; whole >= backend.IntLimit { // several could wrap
			whole, rest = 0, rest+float64(whole)
		}
	}
	return whole, rest
}

func readSummary(d *distribution, w backend.Words) {
	d.Start, d.Native, d.Exemplars, d.Quantiles = 0, nil, nil, d.Quantiles[:0]
	for range 4 {
		d.Count = loadInt(&w[backend.SummaryCount])
		d.Sum = loadFloat(&w[backend.SummarySum])
		if d.Count == loadInt(&w[backend.SummaryCount]) {
			break
		}
	}
}

// mergeGauge returns the value of a gauge over its live parts in all modes but ModePerProcess; false if there
// is nothing to show.
func mergeGauge(mode backend.Mode, parts []backend.Part) (v float64, ok bool) {
	joined, ticket := 0, uint64(0)
	for i := range parts {
		p := &parts[i]
		bits := p.Words[backend.GaugeValue].Load()
		if !p.Live() || bits == backend.SealedFloat {
			continue
		}
		ok = true
		if p.Words[backend.GaugeFlags].Load()&backend.GaugeJoined == 0 {
			continue
		}
		joined++
		value := math.Float64frombits(bits)
		switch at := p.Words[backend.GaugeTicket].Load(); {
		case mode == backend.Sum, mode == backend.Mean:
			v += value
		case joined == 1, mode == backend.Latest && at > ticket,
			mode == backend.Min && (value < v || v != v), mode == backend.Max && (value > v || v != v): // NaN is less and greater than nothing
			v, ticket = value, at
		}
	}
	if mode == backend.Mean && joined > 1 {
		v /= float64(joined)
	}
	// A sum of nobody is zero, unless the series was deleted.
	return v, ok || mode == backend.Sum && !allSealed(parts)
}

func allSealed(parts []backend.Part) bool {
	for i := range parts {
		if parts[i].Words[backend.GaugeValue].Load() != backend.SealedFloat {
			return false
		}
	}
	return true
}

func (p *page) encodeParts(dst []byte, e expo.Encoder, f *backend.Family, labels string, parts []backend.Part) []byte {
	if f.Mode != backend.PerInstance {
		if v, ok := mergeGauge(f.Mode, parts); ok && (v != 0 || f.Kind != backend.Info) {
			dst = p.float(dst, e, f, labels, v)
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
			labels = instanceLabels(labels, part.Instance)
		case part.Instance:
		default:
			continue
		}
		switch f.Kind {
		case backend.Histogram:
			p.readHistogram(&p.dist, f, part.Words)
		case backend.Summary:
			readSummary(&p.dist, part.Words)
			p.dist.Quantiles = slices.Grow(p.dist.Quantiles[:0], len(f.Buckets))[:len(f.Buckets)]
			for j := range f.Buckets {
				p.dist.Quantiles[j] = loadFloat(&part.Words[backend.SummaryQuantiles+j])
			}
		default:
			dst = p.float(dst, e, f, labels, loadFloat(&part.Words[backend.GaugeValue]))
			continue
		}
		dst = e.Distribution(dst, labels, &p.dist)
	}
	return dst
}

// instanceLabels returns the label text of what an instance has of a series.
func instanceLabels(labels string, i *backend.Instance) string {
	if i.Number < 0 {
		return labels
	}
	return backend.AppendLabel(labels, backend.InstanceLabel, strconv.Itoa(i.Number))
}

// encodeStates appends a series for each state of a state set: bit i of on is that of state i.
func encodeStates(dst []byte, e expo.Encoder, f *backend.Family, labels string, on uint64) []byte {
	for i, name := range f.States {
		n := expo.Number{Int: on >> i & 1}
		dst = e.Number(dst, backend.AppendLabel(labels, f.Name, name), &n)
	}
	return dst
}
