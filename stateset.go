package gotheus

import (
	"fmt"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// StateSet is a set of states, of which none, one or several are on, such as what a worker is
// doing. On a page it has a series for each state, told apart by a label with the metric's name,
// that is 1 or 0. At first all are off. It is one word: no page shows a change half-way. All
// methods may be called concurrently. State sets are made by [NewStateSet], [TryNewStateSet] or a
// [Vec].
type StateSet struct{ gauge Gauge }

// Set turns these states on and all others off. If one of them is not a state of s, nothing
// changes, which is counted in gotheus_rejected_updates_total and logged.
func (s *StateSet) Set(states ...string) {
	def := s.gauge.series.Family().Def
	var on uint64
	for _, state := range states {
		i := slices.Index(def.States, state)
		if i < 0 {
			s.gauge.series.Family().Reject("StateSet.Set", fmt.Sprintf("%q", state), fmt.Sprintf("must be one of %q", def.States))
			return
		}
		on |= 1 << i
	}
	s.gauge.Set(float64(on))
}

// Has reports whether a state is on: in ModeShared that of all processes, otherwise this one's.
func (s *StateSet) Has(state string) bool {
	i := slices.Index(s.gauge.series.Family().Def.States, state)
	return i >= 0 && backend.StateBits(s.gauge.Value())>>i&1 != 0
}
