//go:build linux && (386 || amd64 || arm64)

package schedules_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/schedules"
)

// scenario is what goroutines do with a subject.
type scenario struct {
	name  string
	file  bool // processes share a file, and not a heap that stands for one
	skip  func(k *kind) bool
	start func(w *world) []func()
}

// world is a trial of a scenario.
type world struct {
	kind     *kind
	label    string
	shared   backend.Backend // nil: a file
	file     *file
	opened   []backend.Backend // the file, for goroutines that bind
	whole    uint64            // see schedules.Trial
	clock    atomic.Int64
	rs       []*gotheus.Registry
	subjects []subject

	reader int // the registry that is checked, by its own updates; -1: each, by those of all

	// what the goroutines, of which one runs at a time, have done, in this order
	acknowledged []update
	deletes      int // when the last deletion began
	deleted      int // when it ended
	deletions    int
	carries      bool // a bind may set a gauge again
	dropped      bool // updates after a deletion may be dropped, see package interleave
	events       int
	born         int64 // when the series was made, by its page
}

// update is an update that has ended.
type update struct {
	value        uint64
	by           int // the registry
	began, ended int // when, as the number of such events before
}

func (u update) before(later update) bool { return u.ended < later.began }

var quiet = slog.New(slog.DiscardHandler)

// join adds a registry with the subject.
func (w *world) join(bound bool) {
	r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet, NoSelfMetrics: true, Now: func() time.Time { return time.Unix(w.clock.Add(1), 0) }})
	w.rs = append(w.rs, r)
	if bound {
		w.bind(len(w.rs) - 1)
	}
	w.subjects = append(w.subjects, w.kind.make(r, w.label))
	if c, err := onPage(r, w.kind, w.label); w.born == 0 && err == nil {
		w.born = c.start
	}
}

func (w *world) bind(i int) {
	b := w.shared
	if b == nil && len(w.opened) > 0 {
		b, w.opened = w.opened[0], w.opened[1:]
	} else if b == nil {
		b = w.file.open()
	}
	if err := w.rs[i].BindBackend(context.Background(), b); err != nil {
		panic(err)
	}
}

func (w *world) update(i int, values ...uint64) {
	for _, v := range values {
		began := w.event()
		w.subjects[i].update(float64(v))
		w.acknowledged = append(w.acknowledged, update{v, i, began, w.event()})
	}
}

// event counts what happens.
func (w *world) event() int {
	w.events++
	return w.events
}

func (w *world) delete(i int) {
	w.deleteBy(func() { w.subjects[i].family.Delete(w.label) })
}

func (w *world) deleteBy(do func()) {
	w.deletes = w.event()
	do()
	w.deletions++
	w.deleted = w.event()
}

// check checks what the page of a registry has in the end.
func (w *world) check(i int) error {
	c, err := onPage(w.rs[i], w.kind, w.label)
	if err != nil {
		return err
	}
	var all, late uint64 // all updates, and those that began after the last deletion
	if w.reader >= 0 {
		w.acknowledged = slices.DeleteFunc(w.acknowledged, func(u update) bool { return u.by != w.reader })
	}
	for _, u := range w.acknowledged {
		all |= u.value
		if w.deletions > 0 && u.ended < w.deletes && !w.dropped && c.set&u.value != 0 {
			return fmt.Errorf("the page has %b, and the deletion came after update %b", c.set, u.value)
		}
		if w.deletions == 0 || u.began > w.deleted && !w.dropped {
			late |= u.value
		}
	}
	switch {
	case w.kind.last && w.deletions == 0 && len(w.acknowledged) > 0:
		if !w.isLast(c.set) {
			return fmt.Errorf("the page has %b, the updates were %v", c.set, w.acknowledged)
		}
	case w.kind.last:
		if c.set != 0 && c.set&all == 0 || late != 0 && c.set&late == 0 {
			return fmt.Errorf("the page has %b, the updates were %v, %d of them before the deletion ended", c.set, w.acknowledged, w.deleted)
		}
	case c.set&^all != 0 || c.set&late != late:
		return fmt.Errorf("the page has %b, the updates were %b, of which %b must be there", c.set, all, late)
	}
	if w.kind.starts && c.found && (c.start == 0 || w.deletions > 0 && c.start <= w.born) {
		return fmt.Errorf("the start is %v, and the series that was deleted %d times was made at %v", c.start, w.deletions, w.born)
	}
	return w.prefix(c.set)
}

// checkExemplar checks that the page has the exemplar of the last update, which nothing has
// disturbed.
func (w *world) checkExemplar(i int) error {
	c, err := onPage(w.rs[i], w.kind, w.label)
	if last := w.acknowledged[len(w.acknowledged)-1].value; err == nil && w.kind.exemplars && c.exemplar != last {
		err = fmt.Errorf("the exemplar is of update %d, and the last one was %d", c.exemplar, last)
	}
	return err
}

// prefix checks that a deletion has not taken an update and left an earlier one.
func (w *world) prefix(set uint64) error {
	for _, u := range w.acknowledged {
		for _, later := range w.acknowledged {
			if !w.kind.last && !w.dropped && u.before(later) && set&u.value != 0 && set&later.value == 0 {
				return fmt.Errorf("the page has %b, so an update was lost after it, of %v", set, w.acknowledged)
			}
		}
	}
	return nil
}

// isLast reports whether this can be the value of the last update.
func (w *world) isLast(set uint64) bool {
	return slices.ContainsFunc(w.acknowledged, func(u update) bool {
		return u.value == set && !slices.ContainsFunc(w.acknowledged, func(later update) bool {
			return u.before(later) && (u.by == later.by || !w.carries)
		})
	})
}

// end checks the page of each registry, and that further updates count.
func (w *world) end() error {
	defer func() {
		for _, r := range w.rs {
			r.Close(context.Background())
		}
	}()
	for i := range w.rs {
		if w.reader >= 0 && i != w.reader {
			continue
		}
		if err := w.check(i); err != nil {
			return fmt.Errorf("registry %d: %w", i, err)
		}
		w.update(i, 64<<i)
		if err := cmp.Or(w.check(i), w.checkExemplar(i)); err != nil {
			return fmt.Errorf("registry %d, after a further update: %w", i, err)
		}
	}
	return nil
}

func cannotDelete(k *kind) bool { return k.info }

var scenarios = []scenario{
	{"move", false, nil, func(w *world) []func() {
		w.join(false)
		return []func(){func() { w.update(0, 1, 2) }, func() { w.bind(0) }}
	}},
	// A later update would hide that something else than the value is missing.
	{"move, one update", false, nil, func(w *world) []func() {
		w.join(false)
		return []func(){func() { w.update(0, 1) }, func() { w.bind(0) }}
	}},
	{"move, two updaters", false, nil, func(w *world) []func() {
		w.join(false)
		return []func(){func() { w.update(0, 1) }, func() { w.update(0, 2) }, func() { w.bind(0) }}
	}},
	{"move to where others count", false, func(k *kind) bool { return k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.join(false)
		w.carries = true
		return []func(){func() { w.update(0, 1) }, func() { w.update(1, 2) }, func() { w.bind(1) }}
	}},
	{"close and bind again", false, nil, func(w *world) []func() {
		w.join(true)
		return []func(){func() { w.update(0, 1, 2) }, func() { w.close(0); w.bind(0) }}
	}},
	{"delete", false, cannotDelete, func(w *world) []func() {
		w.join(true)
		return []func(){func() { w.update(0, 1, 2) }, func() { w.delete(0) }}
	}},
	{"move and delete", false, cannotDelete, func(w *world) []func() {
		w.join(false)
		return []func(){func() { w.update(0, 1) }, func() { w.bind(0) }, func() { w.delete(0) }}
	}},
	{"move and delete all", false, cannotDelete, func(w *world) []func() {
		w.join(false)
		return []func(){func() { w.update(0, 1) }, func() { w.bind(0) }, func() { w.deleteBy(func() { w.subjects[0].family.DeleteAll() }) }}
	}},
	{"move, and another process deletes", false, func(k *kind) bool { return k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.join(false)
		w.dropped = true
		return []func(){func() { w.update(1, 1, 2) }, func() { w.bind(1) }, func() { w.delete(0) }}
	}},
	{"another process deletes", false, func(k *kind) bool { return k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.join(true)
		return []func(){func() { w.update(0, 1, 2) }, func() { w.delete(1) }}
	}},
	{"come back", false, cannotDelete, func(w *world) []func() {
		w.join(true)
		w.delete(0)
		return []func(){func() { w.update(0, 1) }, func() { w.update(0, 2) }}
	}},
	{"come back in two processes", false, func(k *kind) bool { return k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.join(true)
		w.delete(0)
		return []func(){func() { w.update(0, 1) }, func() { w.update(1, 2) }}
	}},
	{"file: move", true, nil, func(w *world) []func() {
		w.join(false)
		w.opened = append(w.opened, w.file.open())
		return []func(){func() { w.update(0, 1, 2) }, func() { w.bind(0) }}
	}},
	{"file: move and delete", true, cannotDelete, func(w *world) []func() {
		w.join(false)
		w.opened = append(w.opened, w.file.open())
		return []func(){func() { w.update(0, 1) }, func() { w.bind(0) }, func() { w.delete(0) }}
	}},
	{"file: move, and another process deletes", true, func(k *kind) bool { return k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.join(false)
		w.opened = append(w.opened, w.file.open())
		w.dropped = true
		return []func(){func() { w.update(1, 1, 2) }, func() { w.bind(1) }, func() { w.delete(0) }}
	}},
	{"file: delete", true, cannotDelete, func(w *world) []func() {
		w.join(true)
		return []func(){func() { w.update(0, 1, 2) }, func() { w.delete(0) }}
	}},
	{"file: another process deletes", true, cannotDelete, func(w *world) []func() {
		w.join(true)
		w.join(true)
		return []func(){func() { w.update(0, 1, 2) }, func() { w.delete(1) }}
	}},
	{"file: come back in two processes", true, func(k *kind) bool { return k.last && k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.join(true)
		w.delete(0)
		return []func(){func() { w.update(0, 1) }, func() { w.update(1, 2) }}
	}},
	// Only the one that updates is interrupted: joining has thousands of points.
	{"file: one leaves, another one joins", true, func(k *kind) bool { return !k.perOwner }, func(w *world) []func() {
		w.join(true)
		w.update(0, 1)
		w.reader, w.whole = 1, 1<<1
		return []func(){func() { w.update(0, 2) }, func() { w.close(0); w.join(true); w.update(1, 4) }}
	}},
}

// close leaves the shared backend. What was counted there stays there.
func (w *world) close(i int) {
	if err := w.rs[i].Close(context.Background()); err != nil {
		panic(err)
	}
	if w.shared != nil && w.kind.perOwner {
		w.shared = heap.New() // a heap has one part for all, which must not be used again
	}
}

// TestScenarios runs in instrumented programs, see TestSchedules.
func TestScenarios(t *testing.T) {
	part, parts := 0, 0
	if n, _ := fmt.Sscanf(os.Getenv(instrumented), "%d/%d", &part, &parts); n != 2 {
		return
	}
	which, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	schedules.Trace = *points
	n := 0
	for _, s := range scenarios {
		for _, k := range kinds() {
			title := s.name + ": " + k.name
			f := &file{dir: t.TempDir()}
			if n++; n%parts != part || !which.MatchString(title) || s.skip != nil && s.skip(&k) {
				continue
			}
			start := func() schedules.Trial {
				w := &world{kind: &k, label: "a", reader: -1}
				if w.shared = heap.New(); s.file {
					w.shared, w.file = nil, f
					w.label = f.next()
				}
				w.clock.Store(1000)
				goroutines := s.start(w)
				return schedules.Trial{Goroutines: goroutines, Check: w.end, Whole: w.whole}
			}
			begin := time.Now()
			by := *stride
			if by == 0 && s.file { // these take longer
				by = 9
			}
			r, err := schedules.Explore(start, slices.Repeat([]int{cmp.Or(by, 3)}, *switches)...)
			if err != nil {
				t.Errorf("%s: %v", title, err)
			}
			t.Logf("%s: %d schedules of up to %d points (%v)", title, r.Schedules, r.Points, time.Since(begin).Round(time.Millisecond))
		}
	}
}
