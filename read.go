package gotheus

import (
	"math"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/gotheus/gotheus/backend"
	"github.com/gotheus/gotheus/expo"
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

func readCounter(w backend.Words) expo.Number {
	return expo.Number{Int: loadInt(&w[backend.CounterInt]), Float: loadFloat(&w[backend.CounterFloat])}
}

// readHistogram reads living words. The count is derived from the buckets, so that the two always
// agree. Buckets are read again, a bounded number of times, until they have not changed meanwhile, so
// that the sum differs from them by no more than what was being observed during one reading.
func readHistogram(d *distribution, w backend.Words) {
	n := len(w) - backend.HistogramBuckets
	d.Buckets = slices.Grow(d.Buckets[:0], n)[:n]
	for range 4 {
		before := w[backend.HistogramSum].Load()
		d.Count = 0
		for i := range d.Buckets {
			d.Count += loadInt(&w[backend.HistogramBuckets+i])
			d.Buckets[i] = d.Count
		}
		d.Sum = loadFloat(&w[backend.HistogramSum])
		if before == w[backend.HistogramSum].Load() {
			break
		}
	}
	d.Buckets = d.Buckets[:n-1] // the last one is the count
}

func readSummary(d *distribution, w backend.Words) {
	for range 4 {
		d.Count = loadInt(&w[backend.SummaryCount])
		d.Sum = loadFloat(&w[backend.SummarySum])
		if d.Count == loadInt(&w[backend.SummaryCount]) {
			break
		}
	}
}

// mergeGauge returns the value of a gauge over its live parts in all modes but PerInstance; false if there
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

func encodeParts(dst []byte, e expo.Encoder, mode backend.Mode, s *backend.Series) []byte {
	parts := s.Parts.List()
	if mode != backend.PerInstance {
		if v, ok := mergeGauge(mode, parts); ok {
			dst = e.Number(dst, s.Labels, expo.Number{Float: v})
		}
		return dst
	}
	for i := range parts {
		p := &parts[i]
		if p.Live() && p.Words[backend.GaugeValue].Load() != backend.SealedFloat {
			labels := backend.InstanceLabel + `="` + strconv.Itoa(p.Instance.Number) + `"`
			if s.Labels != "" {
				labels = s.Labels + "," + labels
			}
			dst = e.Number(dst, labels, expo.Number{Float: loadFloat(&p.Words[backend.GaugeValue])})
		}
	}
	return dst
}
