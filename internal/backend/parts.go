package backend

import (
	"math"

	"github.com/gotheus/gotheus/internal/exact"
)

// MergeParts returns the value of a gauge over its live parts, in all modes but PerInstance; false
// if there is nothing to show. Sums do not depend on the order of the parts, which may differ
// between processes.
func MergeParts(mode Mode, parts []Part) (v float64, ok bool) {
	joined, ticket := 0, uint64(0)
	var sum exact.Sum
	for i := range parts {
		p := &parts[i]
		bits := p.Words[GaugeValue].Load()
		if !p.Live() || bits == SealedFloat {
			continue
		}
		ok = true
		if p.Words[GaugeFlags].Load()&GaugeJoined == 0 {
			continue
		}
		joined++
		value := math.Float64frombits(bits)
		switch at := p.Words[GaugeTicket].Load(); {
		case mode == Sum, mode == Mean:
			sum.Add(value)
		case joined == 1, mode == Latest && at > ticket,
			// NaN is neither less nor greater than anything.
			mode == Min && (value < v || v != v), mode == Max && (value > v || v != v):
			v, ticket = value, at
		}
	}
	switch {
	case mode == Mean && joined > 1:
		v = sum.Rounded() / float64(joined)
	case mode == Sum, mode == Mean:
		v = sum.Rounded()
	}
	// The sum over no process is zero, unless the series was deleted.
	return v, ok || mode == Sum && !AllSealed(parts)
}

// AllSealed reports whether the value of every part is sealed.
func AllSealed(parts []Part) bool {
	for i := range parts {
		if parts[i].Words[GaugeValue].Load() != SealedFloat {
			return false
		}
	}
	return true
}
