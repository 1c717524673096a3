package interleave

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
)

// Result says what was explored.
type Result struct {
	States     int     // distinct states
	Steps      int     // distinct steps from one of them to another
	Executions float64 // interleavings from beginning to end, of which these steps are made
	Crashed    int     // states in which a process has just been killed
	Ends       int     // states where nothing can happen any more
	Longest    int     // steps of the longest of the shortest ways to a state
}

func (r Result) String() string {
	return fmt.Sprintf("%d states, %d steps, %.3g executions, %d kills, %d ends, up to %d steps deep",
		r.States, r.Steps, r.Executions, r.Crashed, r.Ends, r.Longest)
}

// Violation is an error with the shortest way to it.
type Violation struct {
	Err   error
	Trace []string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%v, after %d steps:\n  %s", v.Err, len(v.Trace), strings.Join(v.Trace, "\n  "))
}

// Unwrap returns the error.
func (v *Violation) Unwrap() error { return v.Err }

type state struct {
	words   []Value
	at      []*place
	owners  []int8
	dead    uint32
	delayed [][]write // plain stores of each actor that have not taken effect
	older   [][]past  // what each actor may still load besides what memory holds
	plain   uint32    // actors that have loaded plainly since their last atomic operation
	id      int32
}

type write struct {
	word Word
	to   Value
}

// past is a value that a word held.
type past struct {
	word  Word
	value Value
}

func (s *state) clone() *state {
	c := *s
	c.words, c.at, c.owners = slices.Clone(s.words), slices.Clone(s.at), slices.Clone(s.owners)
	c.delayed, c.older = slices.Clone(s.delayed), slices.Clone(s.older)
	return &c
}

type key [2]uint64

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

func (s *state) key() key {
	k := key{0x9e3779b97f4a7c15, 0xd1b54a32d192ed03}
	put := func(v uint64) {
		k[0] = mix(k[0]^v, 0xa0761d6478bd642f)
		k[1] = mix(k[1]+v, 0xe7037ed1a0b428db) ^ k[0]>>7
	}
	for i := 0; i < len(s.words); i += 2 {
		v := uint64(s.words[i])
		if i+1 < len(s.words) {
			v |= uint64(s.words[i+1]) << 32
		}
		put(v)
	}
	for i, p := range s.at {
		if p == nil {
			put(1 << 40)
			continue
		}
		put(uint64(p.number) + 1)
		for _, d := range s.delayed[i] {
			put(1<<62 | uint64(d.word)<<32 | uint64(d.to))
		}
		for _, o := range s.older[i] {
			put(1<<61 | uint64(o.word)<<32 | uint64(o.value))
		}
	}
	for _, o := range s.owners {
		put(uint64(o))
	}
	put(uint64(s.dead)<<32 | uint64(s.plain))
	return k
}

type explorer struct {
	m      *Model
	places int32

	seen    map[key]int32
	parents []int32
	moves   []move
	depths  []int32
	edges   []int32 // numbers of the states that each state leads to
	first   []int   // where those of each state begin in edges

	frontier, next []*state
	buffer         []move
	result         Result

	watched set  // the words that the specification is known to read
	learned bool // something new since this was reset

	marked map[mark]*place // see Actor.Forget
	last   *outcome        // of the last step that was made
}

// move is a step of an actor with one of its outcomes, a delayed store that takes effect, or a
// kill.
type move struct {
	kind   uint8 // 0 step, 1 store, 2 kill
	actor  int16
	choice int16
}

// Explore explores a model. The error is a *Violation if an actor or the specification found one.
func (m *Model) Explore() (Result, error) {
	if len(m.words)+len(m.locks) > 64*len(set{}) {
		return Result{}, fmt.Errorf("%d words are too many", len(m.words))
	}
	e := &explorer{m: m, marked: make(map[mark]*place)}
	for i, a := range m.actors {
		a.root = e.run(int32(i), nil, 0)
	}
	e.walk(1000)
	for {
		e.learned = false
		err := e.explore()
		if err != nil || !e.learned {
			return e.result, err
		}
	}
}

// start returns the first state.
func (e *explorer) start() (*state, error) {
	m := e.m
	s := &state{words: slices.Clone(m.words), owners: slices.Clone(m.owners)}
	s.at, s.delayed, s.older = make([]*place, len(m.actors)), make([][]write, len(m.actors)), make([][]past, len(m.actors))
	for i, a := range m.actors {
		s.at[i] = a.root.place
		if err := e.enter(s, a.root); err != nil {
			return nil, &Violation{Err: err}
		}
	}
	return s, nil
}

// walk makes so many random executions, to learn who accesses what.
func (e *explorer) walk(times int) {
	random := rand.New(rand.NewPCG(1, 2))
	for range times {
		s, err := e.start()
		for err == nil {
			moves := e.steps(s)
			if len(moves) == 0 {
				break
			}
			err = e.apply(s, moves[random.IntN(len(moves))])
			if err == nil && e.m.Always != nil {
				err = e.m.Always(View{e, s, nil})
			}
		}
	}
}

// explore explores everything once.
func (e *explorer) explore() error {
	e.seen = make(map[key]int32)
	e.parents, e.moves, e.depths, e.edges, e.first = e.parents[:0], e.moves[:0], e.depths[:0], e.edges[:0], e.first[:0]
	e.frontier, e.next, e.result = nil, nil, Result{}
	limit := e.m.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	s, err := e.start()
	if err != nil {
		return err
	}
	if err := e.visit(s, -1, move{}, 0); err != nil {
		return err
	}
	for len(e.next) > 0 {
		e.frontier, e.next = e.next, e.frontier[:0]
		for i, s := range e.frontier {
			e.frontier[i] = nil
			if err := e.expand(s); err != nil {
				return err
			}
		}
		if len(e.parents) > limit {
			return fmt.Errorf("more than %d states: %v", limit, e.result)
		}
	}
	e.result.Executions = e.executions()
	return nil
}

// enter runs what the specification has attached to a step that an actor has made.
func (e *explorer) enter(s *state, o *outcome) error {
	for _, f := range o.ghosts {
		if err := f(View{e, s, nil}); err != nil {
			return err
		}
	}
	return nil
}

// visit adds a state that a move has led to, unless it is known.
func (e *explorer) visit(s *state, from int32, by move, depth int32) error {
	e.result.Steps++
	k := s.key()
	id, known := e.seen[k]
	if !known {
		id = int32(len(e.parents))
		e.seen[k] = id
		s.id = id
		e.parents, e.moves, e.depths = append(e.parents, from), append(e.moves, by), append(e.depths, depth)
		e.next = append(e.next, s)
		e.result.States++
		e.result.Longest = int(depth)
		if by.kind == 2 {
			e.result.Crashed++
		}
		if e.m.Always != nil {
			if err := e.m.Always(View{e, s, nil}); err != nil {
				return e.violation(err, id)
			}
		}
	}
	if from >= 0 {
		e.edges = append(e.edges, id)
	}
	return nil
}

// expand makes all moves from a state.
func (e *explorer) expand(s *state) error {
	for len(e.first) <= int(s.id) {
		e.first = append(e.first, len(e.edges))
	}
	depth := e.depths[s.id] + 1
	try := func(mv move) error {
		c := s.clone()
		if err := e.apply(c, mv); err != nil {
			v := e.violation(err, s.id)
			v.Trace = append(v.Trace, e.tell(s, mv))
			return v
		}
		return e.visit(c, s.id, mv, depth)
	}
	moves := e.steps(s)
	alone := e.alone(s, moves)
	for _, mv := range moves {
		if alone >= 0 && int(mv.actor) != alone {
			continue
		}
		if err := try(mv); err != nil {
			return err
		}
	}
	if alone >= 0 {
		return nil
	}
	if len(moves) == 0 {
		e.result.Ends++
		for i, p := range s.at {
			if p != nil && p.step.kind != done && !e.m.actors[i].waits {
				return e.violation(fmt.Errorf("%s waits for ever: %s", e.m.actors[i].name, e.describe(p.step, 0)), s.id)
			}
		}
		if e.m.End != nil {
			if err := e.m.End(View{e, s, nil}); err != nil {
				return e.violation(err, s.id)
			}
		}
	}
	if bits.OnesCount32(s.dead) < e.m.Crashes {
		for p := range e.m.processes {
			if e.killable(s, Process(p)) {
				if err := try(move{2, int16(p), 0}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// steps returns the moves from a state but for kills.
func (e *explorer) steps(s *state) []move {
	e.buffer = e.buffer[:0]
	for i, p := range s.at {
		if p == nil {
			continue
		}
		for c := range e.outcomes(s, i) {
			e.buffer = append(e.buffer, move{0, int16(i), int16(c)})
		}
		for c, d := range s.delayed[i] {
			if !slices.ContainsFunc(s.delayed[i][:c], func(w write) bool { return w.word == d.word }) {
				e.buffer = append(e.buffer, move{1, int16(i), int16(c)})
			}
		}
	}
	return e.buffer
}

// alone returns an actor whose next step affects no other, or -1.
func (e *explorer) alone(s *state, moves []move) int {
next:
	for i, p := range s.at {
		if p == nil || len(s.delayed[i]) > 0 {
			continue
		}
		at, writes := int(p.step.word), true
		switch p.step.kind {
		case load, plainLoad:
			writes = false
		case store, add, swap, cas:
			if e.watched.has(at) {
				continue
			}
		default:
			continue
		}
		for j, q := range s.at {
			if j != i && q != nil && (q.writes.has(at) || writes && q.reads.has(at) || e.forwarded(s, j, p.step.word)) {
				continue next
			}
		}
		for _, mv := range moves {
			if int(mv.actor) == i {
				c := s.clone()
				if e.apply(c, mv) != nil || len(e.last.ghosts) > 0 {
					continue next
				}
			}
		}
		return i
	}
	return -1
}

// killable reports whether to kill a process now differs from killing it later.
func (e *explorer) killable(s *state, p Process) bool {
	if e.m.immortal[p] || s.dead&(1<<p) != 0 {
		return false
	}
	for i, at := range s.at {
		if e.m.actors[i].process != p || at == nil {
			continue
		}
		switch at.step.kind {
		case done, load, plainLoad, held, choose:
		default:
			return true
		}
	}
	return false
}

// outcomes returns how many results an actor's step can have, 0 if it must wait.
func (e *explorer) outcomes(s *state, actor int) int {
	st := &s.at[actor].step
	switch st.kind {
	case done:
		return 0
	case choose:
		return int(st.a)
	case lock:
		if s.owners[st.lock] != 0 {
			return 0
		}
	case await:
		if !st.when(View{e, s, s.at[actor]}) {
			return 0
		}
	case load, plainLoad:
		if e.m.Weak && (st.kind == plainLoad || s.plain&(1<<actor) != 0) {
			n := 1
			if !e.forwarded(s, actor, st.word) {
				for _, o := range s.older[actor] {
					if o.word == st.word {
						n++
					}
				}
			}
			if st.kind == load && len(s.older[actor]) > 0 {
				n++ // the present value, but early
			}
			return n
		}
	}
	return 1
}

func (e *explorer) forwarded(s *state, actor int, w Word) bool {
	return slices.ContainsFunc(s.delayed[actor], func(d write) bool { return d.word == w })
}

// set changes a word, and remembers its former value for those who may still load it.
func (e *explorer) set(s *state, by int, w Word, to Value) {
	old := s.words[w]
	s.words[w] = to
	if !e.m.Weak || old == to {
		return
	}
	for i, p := range s.at {
		if i == by || p == nil {
			continue
		}
		if (s.plain&(1<<i) != 0 || p.step.kind == plainLoad || p.step.kind == plainStore) && p.reads.has(int(w)) {
			s.older[i] = append(slices.Clone(s.older[i]), past{w, old})
		}
	}
}

// settle makes an actor's delayed stores take effect.
func (e *explorer) settle(s *state, actor int) {
	for _, d := range s.delayed[actor] {
		e.set(s, actor, d.word, d.to)
	}
	s.delayed[actor] = nil
}

// apply makes a move. An actor's place says with which result.
func (e *explorer) apply(s *state, mv move) error {
	i := int(mv.actor)
	switch mv.kind {
	case 1:
		d := s.delayed[i][mv.choice]
		s.delayed[i] = slices.Delete(slices.Clone(s.delayed[i]), int(mv.choice), int(mv.choice)+1)
		e.set(s, i, d.word, d.to)
		return nil
	case 2:
		s.dead |= 1 << i
		for j, a := range e.m.actors {
			if int(a.process) == i {
				s.at[j], s.delayed[j], s.older[j] = nil, nil, nil
				s.plain &^= 1 << j
			}
		}
		for l, o := range s.owners {
			if int(o) == i+1 {
				s.owners[l] = 0
			}
		}
		return nil
	}
	st := &s.at[i].step
	// what the step orders
	early := mv.choice > 0
	switch st.kind {
	case plainLoad:
		s.plain |= 1 << i
	case plainStore, choose:
	case load:
		if !early {
			s.older[i], s.plain = nil, s.plain&^(1<<i)
		}
	case store:
		e.settle(s, i)
		// Later plain loads may still take effect before it.
		s.older[i] = slices.DeleteFunc(slices.Clone(s.older[i]), func(o past) bool { return !e.m.plain[o.word] })
		s.plain &^= 1 << i
	case cas:
		if s.words[st.word] == st.a {
			e.settle(s, i)
		}
		s.older[i], s.plain = nil, s.plain&^(1<<i)
	default:
		e.settle(s, i)
		s.older[i], s.plain = nil, s.plain&^(1<<i)
	}
	result := Value(0)
	switch st.kind {
	case load, plainLoad:
		result = s.words[st.word]
		for _, d := range s.delayed[i] {
			if d.word == st.word {
				result = d.to
			}
		}
		if early { // the choice-th past value, and nothing older from now on; or the present one
			left := int(mv.choice)
			var rest []past
			for _, o := range s.older[i] {
				if o.word == st.word && left > 0 {
					if left--; left > 0 {
						continue
					}
					result = o.value
				}
				rest = append(rest, o)
			}
			s.older[i] = rest
		} else if st.kind == plainLoad {
			s.older[i] = slices.DeleteFunc(slices.Clone(s.older[i]), func(o past) bool { return o.word == st.word })
		}
	case store:
		e.set(s, i, st.word, st.a)
	case add:
		result = s.words[st.word] + st.a
		e.set(s, i, st.word, result)
	case swap:
		result = s.words[st.word]
		e.set(s, i, st.word, st.a)
	case cas:
		if s.words[st.word] == st.a {
			result = 1
			e.set(s, i, st.word, st.b)
		}
	case plainStore:
		if e.m.Weak {
			s.delayed[i] = append(slices.Clone(s.delayed[i]), write{st.word, st.a})
		} else {
			e.set(s, i, st.word, st.a)
		}
	case tryLock, lock:
		if s.owners[st.lock] == 0 {
			s.owners[st.lock] = int8(e.m.actors[i].process) + 1
			result = 1
		}
	case unlock:
		if int(s.owners[st.lock]) != int(e.m.actors[i].process)+1 {
			return fmt.Errorf("%s releases %s, which it does not hold", e.m.actors[i].name, e.m.locks[st.lock])
		}
		s.owners[st.lock] = 0
	case held:
		if s.owners[st.lock] != 0 {
			result = 1
		}
	case choose:
		result = Value(mv.choice)
	}
	o := e.after(s.at[i], result)
	s.at[i], e.last = o.place, o
	// What is not going to load plainly needs no past.
	if k := s.at[i].step.kind; s.plain&(1<<i) == 0 && k != plainLoad && k != plainStore || k == done {
		s.older[i] = nil
	}
	return e.enter(s, o)
}

// tell describes a move.
func (e *explorer) tell(s *state, mv move) string {
	switch mv.kind {
	case 1:
		d := s.delayed[mv.actor][mv.choice]
		return fmt.Sprintf("%s: its plain store of %s takes effect", e.m.actors[mv.actor].name, e.m.names[d.word])
	case 2:
		return fmt.Sprintf("%s is killed", e.m.processes[mv.actor])
	}
	st := s.at[mv.actor].step
	c := s.clone()
	_ = e.apply(c, mv)
	return fmt.Sprintf("%s: %s", e.m.actors[mv.actor].name, e.describe(st, e.last.result))
}

// violation returns an error with the way to a state.
func (e *explorer) violation(err error, id int32) *Violation {
	var moves []move
	for ; e.parents[id] >= 0; id = e.parents[id] {
		moves = append(moves, e.moves[id])
	}
	slices.Reverse(moves)
	s, _ := e.start()
	v := &Violation{Err: err}
	for _, mv := range moves {
		v.Trace = append(v.Trace, e.tell(s, mv))
		_ = e.apply(s, mv)
	}
	return v
}

// executions counts the ways from the first state to one where nothing can happen any more. A kill
// is a step of an execution as well. Every step leads to a state that is further on, so there are
// no cycles.
func (e *explorer) executions() float64 {
	n := len(e.parents)
	for len(e.first) <= n {
		e.first = append(e.first, len(e.edges))
	}
	count := make([]float64, n)
	next := make([]int, n)
	for i := range n {
		count[i], next[i] = -1, e.first[i]
	}
	stack := []int32{0}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		if next[i] < e.first[i+1] {
			to := e.edges[next[i]]
			next[i]++
			if count[to] < 0 {
				stack = append(stack, to)
			}
			continue
		}
		stack = stack[:len(stack)-1]
		sum := 0.0
		for _, to := range e.edges[e.first[i]:e.first[i+1]] {
			sum += count[to]
		}
		if sum == 0 {
			sum = 1
		}
		count[i] = sum
	}
	return count[0]
}
