package gotheus

import (
	"fmt"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// StateSet is a set of states, such as what a worker is doing, of which none, one or several are
// on. On a page, each state is a series with the value 1 or 0, identified by a label with the
// metric's name. At first all are off. Changes are atomic: no page shows one half done. All methods
// may be called concurrently. State sets come from [NewStateSet], [TryNewStateSet] or a [Vec].
type StateSet struct{ gauge Gauge }

// Set turns these states on and all others off. If one of them is not a state of s, the call is
// ignored, counted in gotheus_rejected_updates_total and logged.
func (s *StateSet) Set(states ...string) {
	def := s.gauge.series.Family().Def
	var on uint64
	for _, state := range states {
		i := slices.Index(def.States, state)
		if i < 0 {
			s.gauge.series.Family().Reject("StateSet.Set", fmt.Sprintf("%q", backend.Clip(state)), fmt.Sprintf("must be one of %q", def.States))
			return
		}
		on |= 1 << i
	}
	s.gauge.Set(float64(on))
}

// Has reports whether a state is on: in ModeShared for all processes, otherwise for this one.
func (s *StateSet) Has(state string) bool {
	i := slices.Index(s.gauge.series.Family().Def.States, state)
	return i >= 0 && backend.StateBits(s.gauge.Value())>>i&1 != 0
}
