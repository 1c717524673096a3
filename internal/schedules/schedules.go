// Package schedules runs production code in many orders. A scenario has two or three goroutines,
// such as one that updates an instrument and one that binds its registry. Instrumented sources,
// which package crashpoints generates for the flag -overlay of "go build", have a point before each
// atomic operation and each lock; at each point in turn, another goroutine takes over. The sources
// themselves contain no hooks, and whatever is written later has its points by construction.
//
// All schedules with at most so many switches are run. Few faults of concurrency need more than
// two, besides those where a goroutine waits or ends. Package interleave, in contrast, explores all
// orders, but of models that are written down by hand.
package schedules

import (
	"fmt"
	"strings"

	"github.com/gotheus/gotheus/internal/crashpoints"
	"github.com/gotheus/gotheus/internal/schedules/turn"
)

const module = "github.com/gotheus/gotheus"

// Points are what instrumented sources call.
var Points = crashpoints.Points{Runtime: module + "/internal/schedules/turn", Schedule: true}

// Packages are those that have points.
var Packages = []string{
	module, module + "/internal/series", module + "/internal/word", module + "/internal/backend", module + "/internal/sparse",
	module + "/internal/backend/heap", module + "/internal/backend/shm", module + "/internal/index", module + "/internal/courtesy",
}

// Trial is a state that goroutines start from, and what must be true when they have ended.
type Trial struct {
	Goroutines []func()
	Check      func() error
	// Whole has a bit for each goroutine that no switch interrupts: what happens in it has too
	// many points.
	Whole uint64
}

// Result says what was explored.
type Result struct {
	Schedules int
	Points    int // of the longest run
}

// Explore runs schedules of new trials with at most one switch for each stride: of those with one
// switch, every strides[0]-th, of those with two, every strides[1]-th, and so on. It returns the
// first error, with its schedule.
func Explore(start func() Trial, strides ...int) (Result, error) {
	e := &explorer{start: start, strides: strides, skipped: make([]int, len(strides))}
	for first := range start().Goroutines {
		e.first = first
		if err := e.explore(nil); err != nil {
			return e.Result, err
		}
	}
	return e.Result, nil
}

// Trace makes errors show all points.
var Trace bool

type explorer struct {
	Result
	start   func() Trial
	first   int
	strides []int
	skipped []int // for each stride
}

func (e *explorer) explore(schedule []turn.Switch) error {
	t := e.start()
	points, err := turn.Run(e.first, schedule, t.Goroutines...)
	e.Schedules++
	e.Points = max(e.Points, len(points))
	if err == nil {
		err = t.Check()
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, e.describe(schedule, points))
	}
	n, from := len(schedule), 0
	if n == len(e.strides) {
		return nil
	}
	if n > 0 {
		from = schedule[n-1].Point
	}
	for i := from; i < len(points); i++ {
		if i > 0 && points[i].Place == points[i-1].Place && points[i].By == points[i-1].By {
			continue // a loop over many words, which are alike
		}
		if t.Whole>>points[i].By&1 != 0 {
			continue
		}
		for to := range t.Goroutines {
			if to == points[i].By || points[i].Ended>>to&1 != 0 {
				continue
			}
			if e.skipped[n]++; e.skipped[n]%e.strides[n] != 0 {
				continue
			}
			next := append(schedule[:n:n], turn.Switch{Point: i + 1, To: to})
			if err := e.explore(next); err != nil {
				return err
			}
		}
	}
	return nil
}

// describe tells who took over where.
func (e *explorer) describe(schedule []turn.Switch, points []turn.Point) string {
	var b strings.Builder
	fmt.Fprintf(&b, "goroutine %d begins", e.first)
	for _, s := range schedule {
		if s.Point <= len(points) {
			fmt.Fprintf(&b, "\n  %d before %s (point %d): goroutine %d goes on", points[s.Point-1].By, points[s.Point-1].Place, s.Point, s.To)
		}
	}
	if Trace {
		for i, p := range points {
			fmt.Fprintf(&b, "\n    %3d: %*s%s", i+1, 4*p.By, "", p.Place)
		}
		return b.String()
	}
	for i := 1; i < len(points); i++ {
		if points[i].By != points[i-1].By {
			fmt.Fprintf(&b, "\n    %d follows at %s after %d at %s", points[i].By, points[i].Place, points[i-1].By, points[i-1].Place)
		}
	}
	return b.String()
}
