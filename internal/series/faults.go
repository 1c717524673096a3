package series

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/report"
)

// fault is a kind of failure that the library counts. It does so without instruments, since the
// constructors and look-ups of the API may be what has failed.
type fault int

const (
	rejectedUpdates fault = iota
	overflowedLookups
	replacedValues
	collectorErrors
	callbackPanics
	faultKinds
)

var faultFamilies = [faultKinds]struct {
	name, help string
	byMetric   bool // one series per metric
}{
	rejectedUpdates:   {"gotheus_rejected_updates_total", "Updates that were ignored, or times taken as 0, because of an invalid value, by metric.", true},
	overflowedLookups: {"gotheus_overflowed_lookups_total", "Look-ups of label values that returned the overflow series, by metric.", true},
	replacedValues:    {"gotheus_replaced_values_total", "Label values of look-ups in which U+FFFD replaced what is not UTF-8, by metric.", true},
	collectorErrors:   {"gotheus_collector_errors_total", "Collectors, or single families of collectors, left out of a page because of an error.", false},
	callbackPanics:    {"gotheus_callback_panics_total", "Panics of functions that the program has given to the library, other than collectors.", false},
}

// faults holds the families of the faults that have occurred.
type faults struct {
	mu       sync.Mutex
	families [faultKinds]*tallies
}

// Reject counts and logs an update that was ignored.
func (f *Family) Reject(op string, v any, rule string) {
	f.report("an update was ignored", op, v, rule)
}

// report counts and logs an update with an invalid value, and what was done about it.
func (f *Family) report(done, op string, v any, rule string) {
	f.Home.count(rejectedUpdates, f)
	f.Home.Log.Log(slog.LevelWarn, "reject "+f.Def.Name, done,
		"metric", f.Def.Name, "operation", op, "value", v, "rule", rule)
}

// Contain is deferred around the call of a function that the program has given to the library: a
// panic of it is counted and logged, and goes no further. What says which function it is.
func (h *Home) Contain(what string) {
	if p := recover(); p != nil {
		h.CountPanic()
		h.logPanic(what, report.PanicError(p))
	}
}

// Contain is Home.Contain for a function that belongs to f. It allocates nothing unless there is a
// panic.
func (f *Family) Contain(what string) {
	if p := recover(); p != nil {
		f.Home.CountPanic()
		f.Home.logPanic(what+" of "+f.Def.Name, report.PanicError(p))
	}
}

func (h *Home) logPanic(what string, err error) {
	h.Log.Log(slog.LevelError, "panic "+what, "a function of the program panicked", "function", what, "error", err)
}

// CountPanic counts a panic of a function that the program has given to the library.
func (h *Home) CountPanic() { h.count(callbackPanics, nil) }

// CountCollectorError counts a collector's error.
func (h *Home) CountCollectorError() { h.count(collectorErrors, nil) }

// ShowCollectorErrors creates the counter of collector errors, so that it is exposed at zero.
func (h *Home) ShowCollectorErrors() { h.tallyOf(collectorErrors, nil) }

func (h *Home) count(k fault, f *Family) {
	if t := h.tallyOf(k, f); t != nil {
		t.add()
	}
}

// tallyOf returns the tally of a fault for f, which may be nil. It returns nil if the fault is not
// counted.
func (h *Home) tallyOf(k fault, f *Family) *tally {
	if h.NoFaults || f != nil && f.Def.Name == h.Prefix+faultFamilies[k].name {
		return nil
	}
	h.faults.mu.Lock()
	if h.faults.families[k] == nil {
		h.faults.families[k] = h.newTallies(k)
	}
	all := h.faults.families[k]
	h.faults.mu.Unlock()
	if _, err := h.Enter(all.family); err != nil {
		return nil // it conflicts with another family
	}
	metric := ""
	if f != nil {
		metric = f.Def.Name
	}
	return all.of(metric)
}

func (h *Home) newTallies(k fault) *tallies {
	def := &backend.Family{Name: h.Prefix + faultFamilies[k].name, Help: faultFamilies[k].help, Kind: backend.Counter}
	labels := slices.Collect(maps.Keys(h.Labels))
	var open []string
	if faultFamilies[k].byMetric {
		open = []string{"metric"}
		if _, ok := h.Labels["metric"]; ok {
			open = []string{OwnPrefix + "metric"}
		}
	}
	def.Labels, _ = backend.SortLabels(append(labels, open...))
	f := &Family{Home: h, Def: def, Constant: h.Labels, Open: open, IsVec: len(open) > 0, Source: "the library"}
	f.max.Store(-1)
	f.Prepare()
	t := &tallies{family: f, byMetric: make(map[string]*tally)}
	f.table = t
	return t
}

// tallies is the table of a fault's family.
type tallies struct {
	family   *Family
	byMetric map[string]*tally // guarded by the family's lock
}

// tally counts one fault, of one metric if its family is by metric.
type tally struct {
	series Series
	word   atomic.Pointer[atomic.Uint64]
}

func (t *tallies) of(metric string) *tally {
	f := t.family
	f.mu.Lock()
	defer f.unlock()
	c := t.byMetric[metric]
	if c == nil {
		c = new(tally)
		var values []string
		if f.IsVec {
			values = []string{metric}
		}
		f.initialize(&c.series, f.text.Write(values))
		f.place(c)
		t.byMetric[metric] = c
	}
	return c
}

func (t *tallies) each(yield func(Instrument) bool) bool {
	for _, c := range t.byMetric {
		if !yield(c) {
			return false
		}
	}
	return true
}

func (t *tallies) lockFree() bool { return false }

// There are few of them, and they are hardly ever deleted.
func (t *tallies) find(labels string) Instrument {
	for _, c := range t.byMetric {
		if c.series.Row.Labels == labels {
			return c
		}
	}
	return nil
}

func (t *tallies) remove(m Instrument) (weight int64) {
	maps.DeleteFunc(t.byMetric, func(_ string, c *tally) bool { return c == m })
	return 0
}

func (c *tally) add() {
	for {
		w := c.word.Load()
		if w.Add(1) < backend.SealedInt {
			return
		}
		if c.word.Load() == w {
			Escape(c, w)
		}
	}
}

func (c *tally) Series() *Series       { return &c.series }
func (c *tally) Exponents() *Exponents { return nil }
func (c *tally) Room() backend.Words   { return nil }

func (c *tally) Move(to, from backend.Words) {
	c.word.Store(&to[backend.CounterInt])
	if from != nil {
		c.series.Family().CarryCounter(to, from)
	}
}
