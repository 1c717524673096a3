package interleave

import (
	"fmt"
	"testing"
)

// moving is a model of a series that counts in the heap of a process, moves to a backend that the
// process shares with others, is deleted and comes back. The instrument and the placement each hold
// the number of a cell: the words that a series counts in.
type moving struct {
	*Model
	wrong string
	gauge bool // it is a gauge, not a counter
	parts bool // of a mode that records whether this process has updated it

	current           Word // the backend in use: the heap or shared
	pointer           Word // the instrument's
	placement         Word // the series' placement
	row               Word // the cell that the heap's index has
	value, set, joins []Word
	mu, moves, heapMu Lock
	process           Process

	// the specification's own: what updates have added, what deletions took, how many deletions
	// there are and are over, and what was added by updates that began after so many
	acknowledged, taken, over Word
	deletions                 int
	dropped                   bool // updates after a deletion may be dropped
	late                      []Word
	before                    Word // what had been added when the gauge was set
}

// The cells. A deleted series that comes back in the heap has another one.
const (
	heapCell = iota
	sharedCell
	nextHeapCell
	detached // sealed from the beginning
	noCell
)

const heapBackend, sharedBackend = 0, 1

func newMoving(wrong string) *moving {
	m := &moving{Model: new(Model), wrong: wrong}
	m.process = m.Process("process")
	m.current, m.pointer, m.placement = m.Word("backend in use", heapBackend), m.Word("instrument", heapCell), m.Word("placement", heapCell)
	m.row = m.Word("row", heapCell)
	for i, name := range []string{"heap", "shared", "next heap", "detached"} {
		initial := Value(0)
		if i == detached {
			initial = Seal
		}
		m.value, m.set = append(m.value, m.Word(name, initial)), append(m.set, m.Word(name+" is set", 0))
		m.joins = append(m.joins, m.Word(name+" is joined", 0))
	}
	m.mu, m.moves, m.heapMu = m.Lock("family"), m.Lock("moves"), m.Lock("heap")
	m.acknowledged, m.taken, m.over = m.Word("acknowledged", 0), m.Word("taken", 0), m.Word("over", 0)
	for i := range 3 {
		m.late = append(m.late, m.Word(fmt.Sprintf("late %d", i), 0))
	}
	m.before = m.Word("before", 0)
	m.Always, m.End = m.always, m.end
	return m
}

func unsealed(v Value) Value {
	if v >= Seal {
		return 0
	}
	return v
}

// always: nothing is counted twice.
func (m *moving) always(v View) error {
	sum := v.Get(m.taken)
	for _, w := range m.value {
		sum += unsealed(v.Get(w))
	}
	if a := v.Get(m.acknowledged); sum > a {
		return fmt.Errorf("%d updates were acknowledged, and there are %d", a, sum)
	}
	return nil
}

// end: pages have everything that was acknowledged and not deleted. If the process was killed, its
// heap is gone.
func (m *moving) end(v View) error {
	if v.Dead(m.process) {
		return nil
	}
	shown := Value(0)
	if v.Get(m.current) == sharedBackend {
		shown = unsealed(v.Get(m.value[sharedCell]))
	} else if row := v.Get(m.row); row != noCell {
		shown = unsealed(v.Get(m.value[row]))
	}
	if a, t := v.Get(m.acknowledged), v.Get(m.taken); a != shown+t {
		return fmt.Errorf("%d updates were acknowledged, %d are shown, deletions took %d", a, shown, t)
	}
	if m.dropped {
		return nil
	}
	if late := v.Get(m.late[m.deletions]); shown < late {
		return fmt.Errorf("%d updates began after the last deletion, %d are shown", late, shown)
	}
	return nil
}

// mover is a goroutine.
type mover struct {
	*moving
	*Actor
	began Word // how many deletions were over when its update began
	ended int  // operations
}

// ends marks the end of an operation.
func (m *mover) ends() {
	m.ended++
	m.Forget(fmt.Sprint(m.ended))
}

func (m *moving) goroutine(p Process, name string, f func(*mover)) {
	began := m.Word(name+" began", 0)
	m.Actor(p, name, func(a *Actor) { f(&mover{moving: m, Actor: a, began: began}) })
}

// took says that a deletion has taken what a word held.
func (m *mover) took(n Value) {
	m.Ghost(func(v View) error { v.Set(m.taken, v.Get(m.taken)+unsealed(n)); return nil })
}

// begins and acknowledge say that an update begins, and that its last step has counted.
func (m *mover) begins() {
	m.Ghost(func(v View) error { v.Set(m.began, v.Get(m.over)); return nil })
}

func (m *mover) acknowledge(n Value) {
	m.Ghost(func(v View) error {
		v.Set(m.acknowledged, v.Get(m.acknowledged)+n)
		late := m.late[v.Get(m.began)]
		v.Set(late, v.Get(late)+n)
		return nil
	})
}

// inc is Counter.Inc, and Counter.addInt if that finds a seal.
func (m *mover) inc() {
	m.incOrSealed()
	m.ends()
}

func (m *mover) incOrSealed() {
	cell := m.Load(m.pointer)
	m.begins()
	if m.Add(m.value[cell], 1) < Seal {
		m.acknowledge(1)
		return
	}
	for {
		cell = m.Load(m.pointer)
		if m.Load(m.value[cell]) >= Seal {
			if m.Load(m.pointer) == cell {
				m.escape(cell)
			}
		} else if m.Add(m.value[cell], 1) < Seal {
			m.acknowledge(1)
			return
		}
	}
}

// escape is Escape.
func (m *mover) escape(cell Value) {
	m.Lock(m.mu)
	m.Lock(m.moves)
	deleted := m.Load(m.placement) == cell && m.Load(m.value[cell]) >= Seal
	m.Unlock(m.moves)
	if deleted {
		m.place()
	}
	m.Unlock(m.mu)
}

// place is Family.place.
func (m *mover) place() {
	for {
		b := m.Load(m.current)
		cell := m.cells(b)
		m.Lock(m.moves)
		if m.Load(m.current) == b {
			m.put(cell, noCell)
			m.Unlock(m.moves)
			return
		}
		m.Unlock(m.moves)
	}
}

// cells is Cells of a backend.
func (m *mover) cells(backend Value) Value {
	cell := Value(sharedCell)
	if backend == heapBackend {
		m.Lock(m.heapMu)
		if cell = m.Load(m.row); cell == noCell {
			cell = nextHeapCell
			m.Store(m.row, cell)
		}
	}
	m.unseal(cell)
	if backend == heapBackend {
		m.Unlock(m.heapMu)
	}
	return cell
}

// unseal is Unseal of a backend's family.
func (m *mover) unseal(cell Value) {
	for {
		n := m.Load(m.value[cell])
		if n < Seal {
			return
		}
		if m.wrong == "unseal by a store" {
			m.Store(m.value[cell], 0)
			return
		}
		if m.CompareAndSwap(m.value[cell], n, 0) {
			return
		}
	}
}

// incElsewhere is inc of another process, which counts in the shared words.
func (m *mover) incElsewhere() {
	m.Load(m.pointer)
	m.begins()
	for m.Add(m.value[sharedCell], 1) >= Seal {
		m.unseal(sharedCell)
	}
	m.acknowledge(1)
	m.ends()
}

// put is Family.put and Instrument.Move.
func (m *mover) put(to, from Value) {
	m.Store(m.placement, to)
	if m.gauge && m.wrong != "new pointers first" {
		carried := from != noCell && m.carryGauge(to, from) && m.parts
		before := carried && m.Load(m.joins[from]) != 0
		if before {
			m.join(to)
		}
		m.Store(m.pointer, to)
		if carried && !before && m.wrong != "flags are not looked at again" && m.Load(m.joins[from]) != 0 {
			m.join(to)
		}
		return
	}
	m.Store(m.pointer, to)
	switch {
	case from == noCell:
	case m.gauge:
		m.carryGauge(to, from)
	default:
		m.carry(to, from)
	}
}

// carryGauge is Family.CarryGauge.
func (m *mover) carryGauge(to, from Value) bool {
	var n Value
	if m.wrong == "seal by load and store" {
		n = m.Load(m.value[from])
		m.Store(m.value[from], Seal)
	} else {
		n = m.Swap(m.value[from], Seal)
	}
	if n == Seal {
		return false
	}
	if m.Load(m.set[from]) != 0 {
		m.Swap(m.set[to], 1)
		m.Store(m.value[to], n)
	} else if n != 0 && !m.addFloat(to, n) {
		m.took(n)
	}
	return true
}

// join is gaugeCells.join.
func (m *mover) join(cell Value) {
	if m.Load(m.joins[cell]) == 0 {
		m.Swap(m.joins[cell], 1)
	}
}

// joinWhereItIs is Gauge.join.
func (m *mover) joinWhereItIs(cell Value) {
	m.join(cell)
	if m.wrong == "joins only where it has counted" {
		return
	}
	for now := m.Load(m.pointer); now != cell; now = m.Load(m.pointer) {
		cell = now
		m.join(cell)
	}
}

func (m *mover) addFloat(cell, n Value) bool {
	for {
		old := m.Load(m.value[cell])
		if old == Seal {
			return false
		}
		if m.CompareAndSwap(m.value[cell], old, old+n) {
			return true
		}
	}
}

// add is Gauge.Add.
func (m *mover) add() {
	cell := m.Load(m.pointer)
	m.Ghost(func(v View) error {
		v.Set(m.began, v.Get(m.over))
		return nil
	})
	for !m.addFloat(cell, 1) {
		m.escape(cell)
		cell = m.Load(m.pointer)
	}
	m.acknowledge(1)
	if m.parts {
		m.joinWhereItIs(cell)
	}
	m.ends()
}

// setTo is Gauge.Set.
func (m *mover) setTo(to Value) {
	cell := m.Load(m.pointer)
	m.Ghost(func(v View) error { v.Set(m.before, v.Get(m.acknowledged)); return nil })
	for {
		if m.wrong != "flags after the value" && m.Load(m.set[cell]) == 0 {
			m.Swap(m.set[cell], 1)
		}
		if old := m.Load(m.value[cell]); old == Seal {
			m.escape(cell)
		} else if m.CompareAndSwap(m.value[cell], old, to) {
			// Updates that begin from now on are late.
			m.Ghost(func(v View) error { v.Set(m.over, 1); return nil })
			if m.wrong == "flags after the value" {
				m.Swap(m.set[cell], 1)
			}
			if m.parts {
				m.joinWhereItIs(cell)
			}
			m.ends()
			return
		}
		cell = m.Load(m.pointer)
	}
}

// endOfSet checks the end of a gauge that was set to a value once.
func (m *moving) endOfSet(to Value) func(View) error {
	return func(v View) error {
		if v.Dead(m.process) {
			return nil
		}
		cell := heapCell
		if v.Get(m.current) == sharedBackend {
			cell = sharedCell
		}
		shown, after, rest := v.Get(m.value[cell]), v.Get(m.late[1]), v.Get(m.acknowledged)-v.Get(m.before)
		if shown < to+after || shown > to+rest {
			return fmt.Errorf("after set to %d, %d additions later and %d at most, the gauge is %d", to, after, rest, shown)
		}
		return nil
	}
}

// shownIfUpdated checks that pages do not leave out a gauge of this process that was updated.
func (m *moving) shownIfUpdated(v View) error {
	cell := heapCell
	if v.Get(m.current) == sharedBackend {
		cell = sharedCell
	}
	if !v.Dead(m.process) && v.Get(m.joins[cell]) == 0 {
		return fmt.Errorf("the gauge was updated, and pages leave it out")
	}
	return nil
}

// carry is Family.CarryCounter.
func (m *mover) carry(to, from Value) {
	var n Value
	switch m.wrong {
	case "seal by load and store":
		n = m.Load(m.value[from])
		m.Store(m.value[from], Seal)
	case "carry without a seal":
		n = m.Load(m.value[from])
	default:
		n = m.Swap(m.value[from], Seal)
	}
	for n = unsealed(n); n > 0; {
		old := m.Load(m.value[to])
		if old >= Seal {
			m.took(n)
			return
		}
		if m.wrong == "carry by load and store" {
			m.Store(m.value[to], old+n)
			return
		}
		if m.CompareAndSwap(m.value[to], old, old+n) {
			return
		}
	}
}

// move is Home.MoveAll.
func (m *mover) move() {
	m.Lock(m.moves)
	m.Store(m.current, sharedBackend)
	m.Unlock(m.moves)
	m.Lock(m.mu) // and list the series
	m.Unlock(m.mu)
	m.Lock(m.mu)
	m.Forget("listed")
	if m.Load(m.placement) != detached {
		cell := m.cells(sharedBackend)
		m.Lock(m.moves)
		if from := m.Load(m.placement); from != sharedCell {
			m.put(cell, from)
		}
		m.Unlock(m.moves)
	}
	m.Unlock(m.mu)
}

// delete is Family.Delete.
func (m *mover) delete() {
	b := m.Load(m.current)
	m.deleteFrom(b)
	for now := m.Load(m.current); now != b; now = m.Load(m.current) {
		b = now
		m.deleteFrom(b)
	}
	m.Forget("deleted")
	// dropDeleted
	m.Lock(m.mu)
	m.Lock(m.moves)
	if m.Load(m.value[m.Load(m.placement)]) >= Seal {
		m.Store(m.placement, detached)
		m.Store(m.pointer, detached)
	}
	m.Unlock(m.moves)
	m.Unlock(m.mu)
	m.Ghost(func(v View) error { v.Set(m.over, v.Get(m.over)+1); return nil })
	m.ends()
}

// deleteFrom is Delete of a backend.
func (m *mover) deleteFrom(backend Value) {
	cell := Value(sharedCell)
	if backend == heapBackend {
		m.Lock(m.heapMu)
		cell = m.Load(m.row)
	}
	if cell != noCell {
		if m.wrong == "delete by load and store" {
			m.took(m.Load(m.value[cell]))
			m.Store(m.value[cell], Seal)
		} else {
			m.took(m.Swap(m.value[cell], Seal))
		}
	}
	if backend == heapBackend {
		if cell != noCell {
			m.Store(m.row, noCell)
		}
		m.Unlock(m.heapMu)
	}
}

// Counters are updated while they move from one backend to another, and are deleted by this process
// or another one.
func TestCounters(t *testing.T) {
	explore(t, []scenario{
		{
			"move", func(wrong string) *Model {
				m := newMoving(wrong)
				m.goroutine(m.process, "updater 0", func(m *mover) { m.inc(); m.inc() })
				m.goroutine(m.process, "updater 1", func(m *mover) { m.inc() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				return m.Model
			}, []string{"seal by load and store", "carry by load and store", "carry without a seal"}, false,
		},
		{
			"delete", func(wrong string) *Model {
				m := newMoving(wrong)
				m.deletions = 1
				m.goroutine(m.process, "updater 0", func(m *mover) { m.inc(); m.inc() })
				m.goroutine(m.process, "updater 1", func(m *mover) { m.inc() })
				m.goroutine(m.process, "deleter", func(m *mover) { m.delete() })
				return m.Model
			}, []string{"delete by load and store"}, false,
		},
		{
			"move and delete", func(wrong string) *Model {
				m := newMoving(wrong)
				m.deletions = 1
				m.goroutine(m.process, "updater", func(m *mover) { m.inc(); m.inc() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				m.goroutine(m.process, "deleter", func(m *mover) { m.delete() })
				return m.Model
			}, []string{"seal by load and store", "delete by load and store"}, false,
		},
		{
			"move, and another process deletes", func(wrong string) *Model {
				m := newMoving(wrong)
				m.deletions, m.dropped = 1, true
				m.goroutine(m.process, "updater", func(m *mover) { m.inc(); m.inc() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				other := m.Process("other process")
				m.goroutine(other, "deleter", func(m *mover) {
					m.deleteFrom(sharedBackend)
					m.Ghost(func(v View) error { v.Set(m.over, v.Get(m.over)+1); return nil })
				})
				return m.Model
			}, []string{"seal by load and store", "delete by load and store"}, false,
		},
		{
			"come back", func(wrong string) *Model {
				m := newMoving(wrong)
				m.words[m.current], m.words[m.pointer], m.words[m.placement] = sharedBackend, sharedCell, sharedCell
				m.words[m.value[sharedCell]] = Seal
				m.goroutine(m.process, "updater", func(m *mover) { m.inc() })
				m.goroutine(m.process, "other updater", func(m *mover) { m.inc() })
				other := m.Process("other process")
				m.goroutine(other, "updater elsewhere", func(m *mover) { m.incElsewhere() })
				return m.Model
			}, []string{"unseal by a store"}, false,
		},
	})
}

// Gauges are set and added to while they move and are deleted.
func TestGauges(t *testing.T) {
	explore(t, []scenario{
		{
			"add", func(wrong string) *Model {
				m := newMoving(wrong)
				m.gauge = true
				m.goroutine(m.process, "updater 0", func(m *mover) { m.add(); m.add() })
				m.goroutine(m.process, "updater 1", func(m *mover) { m.add() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				return m.Model
			}, []string{"seal by load and store"}, false,
		},
		{
			"set", func(wrong string) *Model {
				m := newMoving(wrong)
				m.gauge, m.Always, m.End = true, nil, m.endOfSet(10)
				m.goroutine(m.process, "setter", func(m *mover) { m.setTo(10) })
				m.goroutine(m.process, "updater", func(m *mover) { m.add(); m.add() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				return m.Model
			}, []string{"seal by load and store", "new pointers first"}, false,
		},
		{
			"set where others have added", func(wrong string) *Model {
				m := newMoving(wrong)
				m.gauge, m.Always, m.End = true, nil, m.endOfSet(10)
				m.goroutine(m.process, "setter", func(m *mover) { m.setTo(10) })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				m.words[m.value[sharedCell]] = 5
				return m.Model
			}, []string{"flags after the value"}, false,
		},
		{
			"join", func(wrong string) *Model {
				m := newMoving(wrong)
				m.gauge, m.parts = true, true
				m.Always, m.End = nil, m.shownIfUpdated
				m.goroutine(m.process, "setter", func(m *mover) { m.setTo(10) })
				m.goroutine(m.process, "updater", func(m *mover) { m.add(); m.add() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				return m.Model
			}, nil, false,
		},
		{
			"join once", func(wrong string) *Model {
				m := newMoving(wrong)
				m.gauge, m.parts = true, true
				m.Always, m.End = nil, m.shownIfUpdated
				m.goroutine(m.process, "setter", func(m *mover) { m.setTo(10) })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				return m.Model
			}, []string{"joins only where it has counted", "flags are not looked at again"}, false,
		},
		{
			"delete", func(wrong string) *Model {
				m := newMoving(wrong)
				m.gauge, m.deletions = true, 1
				m.goroutine(m.process, "updater", func(m *mover) { m.add(); m.add() })
				m.goroutine(m.process, "mover", func(m *mover) { m.move() })
				m.goroutine(m.process, "deleter", func(m *mover) { m.delete() })
				return m.Model
			}, []string{"seal by load and store", "delete by load and store"}, false,
		},
	})
}
