// Package interleave explores all interleavings of a few actors on a model of memory. It is for
// tests of this module: the protocols of shared memory and of moving series are written down there
// once more, as short functions over numbered words, and every order of their steps is tried.
//
// # Actors
//
// An actor is a plain Go function whose every access to memory is a call of a method of [Actor]. It
// must depend on nothing but the results of these calls. The explorer can therefore run it again up
// to any point, and an actor's state is the list of the results it has got, or what it says is left
// of it, see [Actor.Forget]. Each such list is run once; from then on the actor is an automaton,
// and a state of the whole model is the memory, the locks, and where each actor is. Orders of steps
// that lead to the same state are explored once, which reduces at least as much as exploring one
// order of each Mazurkiewicz trace: orders of the same trace differ only in steps that do not
// affect each other, and end in the same state.
//
// Besides, a step that affects no other actor is taken at once, and nothing else is tried before
// it: a load of a word that no other actor is ever going to store, or a store to one that no other
// is going to access, and that the specification does not read. What actors are going to access is
// learned while the model is explored, which is repeated until nothing new was learned. (In the
// terms of partial-order reduction, such a step is an ample set. The state space has no cycles, so
// that nothing is put off for ever.)
//
// # Crashes
//
// A process is killed together with all its actors, at any point, and the kernel releases its
// locks. To die before a step that only reads is the same as to die before the next step that
// writes or waits, so only the latter is explored.
//
// # Memory
//
// Atomic operations are sequentially consistent, as they are in Go. Plain accesses are not. With
// Model.Weak, they are reordered as arm64 allows for code that Go compiles:
//
//   - A plain store takes effect at any later time, in any order with others to other words, but no
//     later than the actor's next atomic store, read-modify-write, or lock. A compare-and-swap that
//     fails stores nothing, and so does not wait for earlier stores.
//   - A plain load takes effect at any time since the actor's last atomic load or
//     read-modify-write: it may return values that were there in between.
//   - An atomic load may take effect before plain loads that precede it.
//
// A killed process's plain stores that have not taken effect never do. The model allows slightly
// more than arm64 does: after an atomic load that took effect early, others may be older than it.
package interleave

import (
	"fmt"
	"slices"
)

// Value is what a word holds.
type Value = uint32

// Word is the number of a word.
type Word int32

// Lock is the number of a lock of the kernel's, which a process holds.
type Lock int32

// Process is the number of a process.
type Process int32

// Model is what is explored: memory, locks, and actors in processes.
type Model struct {
	Weak    bool // plain accesses are reordered
	Crashes int  // how many processes are killed at most; see Immortal
	Limit   int  // how many states are explored at most; 0 is DefaultLimit

	// Always is checked in every state, End where no actor can take a step any more.
	Always, End func(View) error

	words     []Value
	names     []string
	plain     []bool
	locks     []string
	owners    []int8 // initial holders of locks: process + 1
	processes []string
	immortal  []bool
	actors    []*actor
}

// DefaultLimit is the limit of states for a model that sets none.
const DefaultLimit = 20_000_000

type actor struct {
	name    string
	process Process
	run     func(*Actor)
	waits   bool
	root    *outcome
}

// Word adds a word that is accessed atomically, or belongs to the specification.
func (m *Model) Word(name string, initial Value) Word {
	m.words, m.names, m.plain = append(m.words, initial), append(m.names, name), append(m.plain, false)
	return Word(len(m.words) - 1)
}

// Plain adds a word that is accessed by plain loads and stores.
func (m *Model) Plain(name string, initial Value) Word {
	w := m.Word(name, initial)
	m.plain[w] = true
	return w
}

// Lock adds a lock.
func (m *Model) Lock(name string) Lock {
	m.locks, m.owners = append(m.locks, name), append(m.owners, 0)
	return Lock(len(m.locks) - 1)
}

// Process adds a process.
func (m *Model) Process(name string) Process {
	m.processes, m.immortal = append(m.processes, name), append(m.immortal, false)
	return Process(len(m.processes) - 1)
}

// Immortal excludes a process from being killed.
func (m *Model) Immortal(p Process) { m.immortal[p] = true }

// Hold makes a process hold a lock from the beginning.
func (m *Model) Hold(p Process, l Lock) { m.owners[l] = int8(p) + 1 }

// Actor adds an actor to a process. It is an error if it may have to wait for ever.
func (m *Model) Actor(p Process, name string, run func(*Actor)) {
	m.actors = append(m.actors, &actor{name: name, process: p, run: run})
}

// Server adds an actor that may wait for ever.
func (m *Model) Server(p Process, name string, run func(*Actor)) {
	m.Actor(p, name, run)
	m.actors[len(m.actors)-1].waits = true
}

// View is a state as the specification sees it.
type View struct {
	e *explorer
	s *state
	p *place // of the actor that waits for what it sees; nil for the specification
}

// Get returns a word's value in memory.
func (v View) Get(w Word) Value {
	if v.p != nil {
		v.e.learn(v.p, int(w), false)
	} else if !v.e.watched.has(int(w)) {
		v.e.watched.add(int(w))
		v.e.learned = true
	}
	return v.s.words[w]
}

// Set changes a word that belongs to the specification.
func (v View) Set(w Word, to Value) { v.s.words[w] = to }

// Held reports whether any process holds a lock.
func (v View) Held(l Lock) bool {
	if v.p != nil {
		v.e.learn(v.p, len(v.s.words)+int(l), false)
	}
	return v.s.owners[l] != 0
}

// Dead reports whether a process was killed.
func (v View) Dead(p Process) bool { return v.s.dead&(1<<p) != 0 }

// Actor is how an actor's function accesses memory. Each call is a step, except of Ghost.
type Actor struct {
	results []Value // of the steps so far
	next    int
	ghosts  []func(View) error
	mark    string
	pending step
}

type kind uint8

const (
	done kind = iota
	load
	store
	add
	swap
	cas
	plainLoad
	plainStore
	tryLock
	lock
	unlock
	held
	await
	choose
)

type step struct {
	kind kind
	word Word
	a, b Value // operands
	lock Lock
	when func(View) bool
	name string
}

type paused struct{}

func (a *Actor) step(s step) Value {
	if a.next < len(a.results) {
		a.next++
		return a.results[a.next-1]
	}
	a.pending = s
	panic(paused{})
}

// Load loads a word atomically.
func (a *Actor) Load(w Word) Value { return a.step(step{kind: load, word: w}) }

// Store stores a word atomically.
func (a *Actor) Store(w Word, v Value) { a.step(step{kind: store, word: w, a: v}) }

// Add adds to a word atomically and returns the sum.
func (a *Actor) Add(w Word, v Value) Value { return a.step(step{kind: add, word: w, a: v}) }

// Swap replaces a word atomically and returns what it held.
func (a *Actor) Swap(w Word, v Value) Value { return a.step(step{kind: swap, word: w, a: v}) }

// CompareAndSwap replaces a word atomically if it holds old, and reports whether it did.
func (a *Actor) CompareAndSwap(w Word, old, v Value) bool {
	return a.step(step{kind: cas, word: w, a: old, b: v}) != 0
}

// PlainLoad loads a word without atomicity.
func (a *Actor) PlainLoad(w Word) Value { return a.step(step{kind: plainLoad, word: w}) }

// PlainStore stores a word without atomicity.
func (a *Actor) PlainStore(w Word, v Value) { a.step(step{kind: plainStore, word: w, a: v}) }

// TryLock takes a lock for the actor's process, unless it is taken.
func (a *Actor) TryLock(l Lock) bool { return a.step(step{kind: tryLock, lock: l}) != 0 }

// Lock waits for a lock.
func (a *Actor) Lock(l Lock) { a.step(step{kind: lock, lock: l}) }

// Unlock releases a lock.
func (a *Actor) Unlock(l Lock) { a.step(step{kind: unlock, lock: l}) }

// Held reports whether any process holds a lock.
func (a *Actor) Held(l Lock) bool { return a.step(step{kind: held, lock: l}) != 0 }

// Await waits until a condition holds. It stands for a loop that looks again and again.
func (a *Actor) Await(name string, when func(View) bool) {
	a.step(step{kind: await, name: name, when: when})
}

// Choose returns each number below n in turn.
func (a *Actor) Choose(name string, n int) int {
	return int(a.step(step{kind: choose, name: name, a: Value(n)}))
}

// Ghost lets the specification look at the state, or change its own words, in the same instant as
// the previous step. An error ends the exploration. f must not depend on variables that change
// after the call.
func (a *Actor) Ghost(f func(View) error) {
	if a.next == len(a.results) {
		a.ghosts = append(a.ghosts, f)
	}
}

// Fail ends the exploration.
func (a *Actor) Fail(format string, args ...any) {
	a.Ghost(func(View) error { return fmt.Errorf(format, args...) })
}

// Forget says that what the actor does from here on depends on nothing that has happened to it but
// what is written in key, which no other point of its function has. It reduces what is explored.
func (a *Actor) Forget(key string) {
	if a.next == len(a.results) {
		a.mark = key
	}
}

// place is where an actor is: after some list of results, or at a mark.
type place struct {
	number  int32
	actor   int32
	history []Value // results that lead here
	before  []*place
	after   map[Value]*outcome
	step    step

	// what the actor is known to access here and later
	reads, writes set
}

// outcome is what a step with some result leads to.
type outcome struct {
	*place
	result Value
	ghosts []func(View) error
}

type mark struct {
	actor int32
	key   string
}

// after returns what a step at p leads to if its result is this one.
func (e *explorer) after(p *place, result Value) *outcome {
	o, ok := p.after[result]
	if !ok {
		o = e.run(p.actor, p, result)
		if p.after == nil {
			p.after = make(map[Value]*outcome)
		}
		p.after[result] = o
	}
	return o
}

// run runs an actor from its beginning up to the first step whose result is not known.
func (e *explorer) run(number int32, before *place, result Value) *outcome {
	var a Actor
	if before != nil {
		a.results = append(slices.Clip(before.history), result)
	}
	func() {
		defer func() {
			if r := recover(); r != nil && r != any(paused{}) {
				panic(r)
			}
		}()
		e.m.actors[number].run(&a)
	}()
	key := mark{number, a.mark}
	q := e.marked[key]
	if a.mark == "" || q == nil {
		q = &place{number: e.places, actor: number, history: a.results, step: a.pending}
		e.places++
		if a.mark != "" {
			e.marked[key] = q
		}
	}
	if before != nil {
		q.before = append(q.before, before)
		for i := range 64 * len(set{}) {
			if q.reads.has(i) {
				e.learn(before, i, false)
			}
			if q.writes.has(i) {
				e.learn(before, i, true)
			}
		}
	}
	w, l := int(q.step.word), len(e.m.words)+int(q.step.lock)
	switch q.step.kind {
	case load, plainLoad:
		e.learn(q, w, false)
	case store, plainStore:
		e.learn(q, w, true)
	case add, swap, cas:
		e.learn(q, w, false)
		e.learn(q, w, true)
	case held:
		e.learn(q, l, false)
	case tryLock, lock, unlock:
		e.learn(q, l, false)
		e.learn(q, l, true)
	}
	return &outcome{q, result, a.ghosts}
}

// set is a set of words and locks.
type set [4]uint64

func (s *set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s *set) add(i int)      { s[i/64] |= 1 << (i % 64) }

// learn notes that an actor accesses a word or lock at a place, or after it.
func (e *explorer) learn(p *place, i int, writes bool) {
	s := &p.reads
	if writes {
		s = &p.writes
	}
	if s.has(i) {
		return
	}
	s.add(i)
	e.learned = true
	for _, b := range p.before {
		e.learn(b, i, writes)
	}
}

func (e *explorer) describe(s step, result Value) string {
	m := e.m
	value := func(v Value) string {
		if v >= Seal {
			return fmt.Sprintf("seal+%d", v-Seal)
		}
		return fmt.Sprint(v)
	}
	switch s.kind {
	case load:
		return fmt.Sprintf("load %s = %s", m.names[s.word], value(result))
	case store:
		return fmt.Sprintf("store %s := %s", m.names[s.word], value(s.a))
	case add:
		return fmt.Sprintf("add %d to %s = %s", int32(s.a), m.names[s.word], value(result))
	case swap:
		return fmt.Sprintf("swap %s := %s, was %s", m.names[s.word], value(s.a), value(result))
	case cas:
		return fmt.Sprintf("compare-and-swap %s: %s -> %s, %v", m.names[s.word], value(s.a), value(s.b), result != 0)
	case plainLoad:
		return fmt.Sprintf("plain load %s = %s", m.names[s.word], value(result))
	case plainStore:
		return fmt.Sprintf("plain store %s := %s", m.names[s.word], value(s.a))
	case tryLock:
		return fmt.Sprintf("try lock %s, %v", m.locks[s.lock], result != 0)
	case lock:
		return "lock " + m.locks[s.lock]
	case unlock:
		return "unlock " + m.locks[s.lock]
	case held:
		return fmt.Sprintf("is %s locked: %v", m.locks[s.lock], result != 0)
	case await:
		return "await: " + s.name
	case choose:
		return fmt.Sprintf("chooses %s %d", s.name, result)
	}
	return "has ended"
}

// Seal is the seal of words in models. What is added to it later leaves it sealed.
const Seal Value = 1 << 31
