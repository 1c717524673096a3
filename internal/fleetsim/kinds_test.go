package fleetsim

import (
	"fmt"
	"slices"
	"strings"
)

// kind is a kind of fault or event, or a rule that pages must obey. The table says what each is,
// and which of them are on by default.
type kind int

const (
	always kind = iota
	lostRequests
	lostAnswers
	duplicates
	delays
	refusals
	hangs
	refusedWrites
	partitions
	kills
	pauses
	closes
	bursts
	deletions
	emptyRestarts
	oldRestarts
	failovers
	clockJumps
	forks
	longForks
	evictions
	damages
	headServer
	clocksNotCompared
	closeRestores
	exactFloats
	noticedBefore
	noLimits
	lowerBounds
	lastKind
)

var kinds = [lastKind]struct {
	name string
	on   bool
}{
	always:        {"always", true},
	lostRequests:  {"lost-requests", true},
	lostAnswers:   {"lost-answers", true},
	duplicates:    {"duplicates", true}, // a request arrives again, up to alive later
	delays:        {"delays", true},     // beyond the timeout; others overtake
	refusals:      {"refusals", true},   // connections are refused for a while
	hangs:         {"hangs", true},
	refusedWrites: {"refused-writes", true}, // read-only, or out of memory
	partitions:    {"partitions", true},     // some processes reach no server
	kills:         {"kills", true},
	pauses:        {"pauses", true},
	closes:        {"closes", true},
	bursts:        {"bursts", true}, // lives of less than a second, also 20 at once
	deletions:     {"deletions", true},
	emptyRestarts: {"empty-restarts", true},
	oldRestarts:   {"old-restarts", true},
	failovers:     {"failovers", true},    // to a replica that lacks commits
	clockJumps:    {"clock-jumps", false}, // of hours, at failovers
	forks:         {"forks", true},        // an old master serves some for a while
	longForks:     {"long-forks", false},  // so that live processes are folded
	evictions:     {"evictions", false},   // of a head, a part or a group
	damages:       {"damages", false},     // a head or a part cannot be read any more

	// What stores do, and what pages must do in addition.
	headServer:        {"head-server", false},         // stores say who answers
	clocksNotCompared: {"clocks-not-compared", false}, // others' heads have age 0
	closeRestores:     {"close-restores", false},      // what a process knew that closes
	exactFloats:       {"exact-floats", false},        // sums decrease not by a bit
	noLimits:          {"no-limits", false},           // also after the log says so
	noticedBefore:     {"noticed-before", false},      // also while a loss is noticed
	lowerBounds:       {"lower-bounds", true},         // off: only that nothing counts twice
}

// setting is what a history is made of.
type setting struct {
	kinds   [lastKind]bool
	mistake *mistake
}

func (s *setting) on(k kind) bool { return s.kinds[k] }

// newSetting returns the default setting with some changes, as in "+evictions,-forks", or "none" or
// "all" first.
func newSetting(changes string) (s setting, err error) {
	for k := range kinds {
		s.kinds[k] = kinds[k].on
	}
	for _, c := range strings.FieldsFunc(changes, func(r rune) bool { return r == ',' }) {
		switch c {
		case "none", "all":
			for k := range kinds {
				s.kinds[k] = c == "all" || kind(k) == always || kind(k) == lowerBounds
			}
			continue
		}
		name := strings.TrimLeft(c, "+-")
		k := slices.IndexFunc(kinds[:], func(k struct {
			name string
			on   bool
		}) bool {
			return k.name == name
		})
		if k < 0 {
			return s, fmt.Errorf("-sim.kinds: there is no %q", name)
		}
		s.kinds[k] = c[0] != '-'
	}
	return s, nil
}
