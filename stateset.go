package gotheus

import (
	"fmt"
	"math"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// StateSet is a set of states, of which none, one or several are on, such as what a worker is
// doing. On a page it has a series for each state, told apart by a label with the metric's name,
// that is 1 or 0. At first all are off. It is one word: no page shows a change half-way. All
// methods may be called concurrently. State sets are made by [NewStateSet], [TryNew] or a [Vec].
type StateSet struct{ gauge Gauge }

// Set turns these states on and all others off. If one of them is not a state of s, nothing
// changes, which is counted in gotheus_rejected_updates_total and logged.
func (s *StateSet) Set(states ...string) {
	def := s.gauge.fam().def
	var on uint64
	for _, state := range states {
		i := slices.Index(def.States, state)
		if i < 0 {
			s.gauge.fam().reject("StateSet.Set", fmt.Sprintf("%q", state), fmt.Sprintf("must be one of %q", def.States))
			return
		}
		on |= 1 << i
	}
	s.gauge.Set(float64(on))
}

// Has reports whether a state is on: in ModeShared that of all processes, otherwise this one's.
func (s *StateSet) Has(state string) bool {
	i := slices.Index(s.gauge.fam().def.States, state)
	return i >= 0 && stateBits(s.gauge.Value())>>i&1 != 0
}

// stateBits is the reverse of the conversion in Set, for whatever is in the word.
func stateBits(v float64) uint64 {
	if !(v >= 0 && v < 1<<backend.MaxStates) {
		return 0
	}
	return uint64(math.Trunc(v))
}

func (s *StateSet) base() *series { return s.gauge.base() }

func (s *StateSet) move(to, from backend.Words) { s.gauge.move(to, from) }
