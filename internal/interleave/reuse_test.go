package interleave

import (
	"errors"
	"fmt"
	"slices"
)

// reuse is a model of how records of shared memory are deleted and their space is used again: one
// chain of the index, records of one size, and instances. Refs of records begin at 1.
type reuse struct {
	*Model
	wrong  string // the mistake to make, or ""
	used   int    // how many of the keys the actors use
	pages  bool   // there are pages
	closes bool   // instances leave

	bucket, limbo, batch, phase, ticket, tickets, free, tail Word
	turn                                                     Lock
	records                                                  []*record
	instances                                                []*instance

	// the specification's own
	acknowledged, taken []Word // updates, by key; what deletions took
}

type record struct {
	key                            Word // plain
	state, count, next, link, keep Word
	owner, linked, gone            Word // the specification's own, see below
}

// Keys are stored plus 1. The owner of a record is the key that its space was given to, plus 1, or
// 0. It is linked once it
// is in the chain, until its space is free. It is gone once somebody has seen that it was deleted.

type instance struct {
	process Process
	alive   Lock
	id, ack Word
	closed  Word
	// What the process's memory has: for each key, the instrument and the page's entry, which
	// point to a record; for each goroutine, which operation is running, and the record of an
	// instrument that it uses, as the garbage collector knows it.
	instrument, entry []Word
	running, uses     []Word
	// how far the page's entries have the chain; what a page must have (the specification's
	// own)
	read, expected Word
}

const (
	keyA = iota
	keyB
	keyC
	keys
)

var keyNames = [keys]string{"A", "B", "C"}

// newReuse returns a model with so many instances that have joined, each with two goroutines, and a
// chain of live records with these keys. There is space for spare more.
func newReuse(instances int, spare int, chain ...int) *reuse {
	r := &reuse{Model: new(Model), used: keys}
	r.bucket, r.limbo, r.batch = r.Word("bucket", 0), r.Word("limbo", 0), r.Word("batch", 0)
	r.phase, r.ticket, r.free = r.Word("phase", 0), r.Word("ticket", 0), r.Word("free", 0)
	r.tickets = r.Word("tickets", Value(instances))
	r.tail = r.Word("tail", Value(len(chain)+1))
	r.turn = r.Lock("turn")
	for i := range keys {
		r.acknowledged = append(r.acknowledged, r.Word("acknowledged "+keyNames[i], 0))
		r.taken = append(r.taken, r.Word("taken "+keyNames[i], 0))
	}
	r.records = append(r.records, nil)
	for i := range len(chain) + spare {
		name := func(s string) string { return fmt.Sprintf("%s(%d)", s, i+1) }
		var key, next, owner, linked Value
		if i < len(chain) {
			key, owner, linked = Value(chain[i])+1, Value(chain[i])+1, 1
			if i+1 < len(chain) {
				next = Value(i + 2)
			}
		}
		r.records = append(r.records, &record{
			key: r.Plain(name("key"), key), state: r.Word(name("state"), 0), count: r.Word(name("count"), 0), next: r.Word(name("next"), next),
			link: r.Word(name("link"), 0), keep: r.Word(name("keep"), 0),
			owner: r.Word(name("owner"), owner), linked: r.Word(name("linked"), linked), gone: r.Word(name("gone"), 0),
		})
	}
	if len(chain) > 0 {
		r.words[r.bucket] = 1
	}
	for i := range instances {
		in := r.instance(i)
		r.words[in.id] = Value(i + 1)
		r.Hold(in.process, in.alive)
	}
	r.Always = r.invariant
	return r
}

// freed makes all space free that no record has.
func (r *reuse) freed() {
	for i := int(r.words[r.tail]); i < len(r.records); i++ {
		r.words[r.records[i].link] = r.words[r.free]
		r.words[r.records[i].state], r.words[r.records[i].count] = 1, Seal
		r.words[r.free] = Value(i)
	}
	r.words[r.tail] = Value(len(r.records))
}

// instance adds an instance that has not joined.
func (r *reuse) instance(i int) *instance {
	name := func(s string) string { return fmt.Sprintf("%s[%d]", s, i) }
	in := &instance{
		process: r.Process(fmt.Sprintf("process %d", i)), alive: r.Lock(name("alive")),
		id: r.Word(name("id"), 0), ack: r.Word(name("ack"), 0), closed: r.Word(name("closed"), 0),
		read: r.Word(name("read"), 0), expected: r.Word(name("expected"), 0),
	}
	for k := range keys {
		in.instrument = append(in.instrument, r.Word(name("instrument "+keyNames[k]), 0))
		in.entry = append(in.entry, r.Word(name("entry "+keyNames[k]), 0))
	}
	for g := range 3 { // the last is the acknowledger
		in.running = append(in.running, r.Word(name(fmt.Sprintf("running %d", g)), 0))
		in.uses = append(in.uses, r.Word(name(fmt.Sprintf("uses %d", g)), 0))
	}
	r.instances = append(r.instances, in)
	return in
}

// invariant is what must hold in every state.
func (r *reuse) invariant(v View) error {
	reached := make([]bool, len(r.records))
	var live [keys]bool
	for at := v.Get(r.bucket); at != 0; at = v.Get(r.records[at].next) {
		rec := r.records[at]
		if reached[at] {
			return fmt.Errorf("the chain is a cycle at record %d", at)
		}
		reached[at] = true
		owner := v.Get(rec.owner)
		if owner == 0 {
			return fmt.Errorf("record %d is in the chain, and its space is free", at)
		}
		if v.Get(rec.key) != owner {
			return fmt.Errorf("record %d is in the chain, and is not complete", at)
		}
		if v.Get(rec.state) == 0 {
			if live[owner-1] {
				return fmt.Errorf("there are two live records of %s", keyNames[owner-1])
			}
			live[owner-1] = true
		}
	}
	var counted [keys]Value
	for i, rec := range r.records {
		if i > 0 && v.Get(rec.owner) != 0 && Value(i) >= v.Get(r.tail) {
			return fmt.Errorf("record %d is beyond the tail", i)
		}
		if i == 0 || v.Get(rec.linked) == 0 {
			continue
		}
		if v.Get(rec.state) == 0 && !reached[i] {
			return fmt.Errorf("the chain has lost the live record %d", i)
		}
		if n := v.Get(rec.count); n < Seal {
			counted[v.Get(rec.owner)-1] += n
		} else if v.Get(rec.state) == 0 {
			return fmt.Errorf("record %d is live, and its count is sealed", i)
		}
	}
	for k := range keys {
		if a, c, t := v.Get(r.acknowledged[k]), counted[k], v.Get(r.taken[k]); a != c+t {
			return fmt.Errorf("%s: %d updates were acknowledged, %d are counted, deletions took %d", keyNames[k], a, c, t)
		}
	}
	seen := make([]bool, len(r.records))
	for at := v.Get(r.free); at != 0; at = v.Get(r.records[at].link) {
		if seen[at] {
			return fmt.Errorf("the free list is a cycle at record %d", at)
		}
		seen[at] = true
		if v.Get(r.records[at].owner) != 0 {
			return fmt.Errorf("record %d is free, and its space is given to %s", at, keyNames[v.Get(r.records[at].owner)-1])
		}
	}
	return nil
}

// thread is a goroutine of an instance.
type thread struct {
	*reuse
	*Actor
	*instance
	number int
	turns  Value
	// the records that drop has just found
	dropped []Value
	ended   int // operations
	attempt int // of an update
}

// goroutine adds a goroutine to an instance. Its number is 0 or 1.
func (r *reuse) goroutine(i, number int, name string, f func(*thread)) {
	in := r.instances[i]
	r.Actor(in.process, name, func(a *Actor) { f(&thread{reuse: r, Actor: a, instance: in, number: number}) })
}

// acknowledger adds a goroutine that acknowledges up to n tickets.
func (r *reuse) acknowledger(i, n int) {
	in := r.instances[i]
	r.Server(in.process, fmt.Sprintf("acknowledger %d", i), func(a *Actor) {
		t := &thread{reuse: r, Actor: a, instance: in, number: 2}
		for range n {
			t.Await("there is a ticket", func(v View) bool { return v.Get(t.id) != 0 && v.Get(t.ticket) > max(v.Get(t.ack), v.Get(t.id)) })
			if t.closes {
				t.begin()
			}
			if !t.closes || t.Load(t.closed) < 2 {
				t.acknowledge(t.Load(t.ticket))
			}
			if t.closes {
				t.end()
			}
			t.ends()
		}
	})
}

// begin and end surround everything that takes records from the chain or the page's entries.
func (t *thread) begin() {
	t.turns++
	t.Store(t.running[t.number], t.turns)
}

func (t *thread) end() { t.Store(t.running[t.number], 0) }

// ends marks the end of an operation.
func (t *thread) ends() {
	t.ended++
	t.forget("ends")
}

// forget marks a point, whose name no other has, within an operation. The variables are those of
// its functions that are used later.
func (t *thread) forget(point string, variables ...any) {
	t.Forget(fmt.Sprint(t.ended, t.turns, t.attempt, point, variables))
}

// mine fails unless a record belongs to a key. It is checked together with the previous step.
func (t *thread) mine(at Value, key int, what string) {
	rec := t.records[at]
	t.Ghost(func(v View) error {
		if owner := v.Get(rec.owner); owner != Value(key)+1 || v.Get(rec.linked) == 0 {
			name := "nobody"
			if owner != 0 {
				name = keyNames[owner-1]
			}
			return fmt.Errorf("%s of %s: record %d is that of %s", what, keyNames[key], at, name)
		}
		return nil
	})
}

// seal seals a record that was found retired.
func (t *thread) seal(at Value, key int) {
	rec := t.records[at]
	old := t.Swap(rec.count, Seal)
	t.Ghost(func(v View) error {
		if v.Get(rec.state) == 0 {
			return fmt.Errorf("record %d is sealed, and it is live", at)
		}
		if old < Seal {
			v.Set(t.taken[key], v.Get(t.taken[key])+old)
		}
		return nil
	})
	t.mine(at, key, "sealing")
}

// ignored says that somebody has seen that a record was deleted.
func (t *thread) ignored(at Value) {
	rec := t.records[at]
	t.Ghost(func(v View) error { v.Set(rec.gone, 1); return nil })
}

// find returns the live record of a key from one record of the chain to another, or 0.
func (t *thread) find(key int, from, to Value) Value {
	for at := from; at != 0 && at != to; {
		rec := t.records[at]
		if t.PlainLoad(rec.key) == Value(key)+1 {
			if t.Load(rec.state) == 0 {
				t.mine(at, key, "look-up")
				return at
			}
			if t.wrong != "no help" {
				t.seal(at, key)
			}
			t.ignored(at)
		}
		at = t.Load(rec.next)
	}
	return 0
}

// findOrCreate returns the record of a key.
func (t *thread) findOrCreate(key int) Value {
	seen := t.Load(t.bucket)
	if at := t.find(key, seen, 0); at != 0 {
		return at
	}
	t.forget("not found", seen)
	locked := t.TryLock(t.turn)
	now := t.Load(t.bucket)
	at := t.find(key, now, seen)
	if at == 0 {
		at = t.create(key, now, locked)
	}
	if locked {
		t.Unlock(t.turn)
	}
	return at
}

func (t *thread) create(key int, now Value, locked bool) Value {
	at, popped := Value(0), false
	if locked || t.wrong == "free list without the lock" {
		if at = t.Load(t.free); at != 0 {
			popped = true
			t.Store(t.free, t.Load(t.records[at].link))
		}
	}
	for at == 0 {
		tail := t.Load(t.tail)
		if int(tail) == len(t.records) {
			return 0 // full
		}
		if t.wrong == "the tail is moved by a store" {
			t.Store(t.tail, tail+1)
			at = tail
		} else if t.CompareAndSwap(t.tail, tail, tail+1) {
			at = tail
		}
	}
	rec := t.records[at]
	t.Ghost(func(v View) error {
		if owner := v.Get(rec.owner); owner != 0 {
			return fmt.Errorf("the space of record %d is given to %s, and belongs to %s", at, keyNames[key], keyNames[owner-1])
		}
		v.Set(rec.owner, Value(key)+1)
		v.Set(rec.gone, 0)
		return nil
	})
	t.forget("filling", at, popped, locked, now)
	fill := func() {
		t.PlainStore(rec.key, Value(key)+1)
		if popped {
			t.PlainStore(rec.state, 0)
			t.PlainStore(rec.count, 0)
			t.PlainStore(rec.keep, 0)
		}
	}
	if t.wrong != "publish before filling" {
		fill()
	}
	for {
		t.Store(rec.next, now)
		if t.CompareAndSwap(t.bucket, now, at) {
			t.Ghost(func(v View) error { v.Set(rec.linked, 1); return nil })
			if t.wrong == "publish before filling" {
				fill()
			}
			t.forget("created", at, locked)
			return at
		}
		seen := now
		now = t.Load(t.bucket)
		if t.wrong == "no second look" {
			continue
		}
		if found := t.find(key, now, seen); found != 0 {
			// From here on it is nobody's, whatever becomes of it.
			t.Ghost(func(v View) error { v.Set(rec.owner, 0); return nil })
			if popped {
				t.Store(rec.link, t.Load(t.free))
				t.Store(t.free, at)
			} else if t.wrong == "the tail is given back by a store" {
				t.Store(t.tail, at)
			} else {
				t.CompareAndSwap(t.tail, at+1, at)
			}
			return found
		}
	}
}

// lookup returns the record that an instrument points to, and makes the instrument if needed.
func (t *thread) lookup(key int) Value {
	at := t.Load(t.instrument[key])
	if at == 0 {
		t.begin()
		if t.closes && t.Load(t.closed) != 0 {
			t.end()
			return 0
		}
		at = t.findOrCreate(key)
		if at != 0 && t.wrong == "unseal" {
			rec := t.records[at]
			if n := t.Load(rec.count); n >= Seal {
				t.CompareAndSwap(rec.count, n, 0)
			}
		}
		if t.wrong == "ends before the instrument is there" {
			t.end()
		}
		if at != 0 {
			t.Store(t.instrument[key], at)
			t.use(at)
		}
		if t.wrong != "ends before the instrument is there" {
			t.end()
		}
		return at
	}
	t.use(at)
	return at
}

// use says that the goroutine has an instrument that points to a record.
func (t *thread) use(at Value) {
	uses := t.uses[t.number]
	t.Ghost(func(v View) error { v.Set(uses, at); return nil })
}

// with makes a key's instrument, and keeps it no longer.
func (t *thread) with(key int) {
	t.lookup(key)
	t.use(0)
	t.ends()
}

// update adds 1 to a key's count. It gives up after some attempts.
func (t *thread) update(key, attempts int) {
	t.attempts(key, attempts)
	t.ends()
}

func (t *thread) attempts(key, n int) {
	for t.attempt = range n {
		at := t.lookup(key)
		if at == 0 {
			return // no space
		}
		rec := t.records[at]
		n := t.Add(rec.count, 1)
		t.mine(at, key, "update")
		t.Ghost(func(v View) error {
			v.Set(t.uses[t.number], 0)
			if n >= Seal {
				return nil
			}
			v.Set(t.acknowledged[key], v.Get(t.acknowledged[key])+1)
			if v.Get(rec.gone) != 0 {
				return errors.New("an update is lost although its series was seen to be deleted before")
			}
			return nil
		})
		if n < Seal {
			return
		}
		t.CompareAndSwap(t.instrument[key], at, 0)
	}
}

// delete deletes a key's series.
func (t *thread) delete(key int) {
	if t.wrong != "deletions are not waited for" {
		t.begin()
	}
	if at := t.find(key, t.Load(t.bucket), 0); at != 0 {
		rec := t.records[at]
		if t.CompareAndSwap(rec.state, 0, 1) {
			t.mine(at, key, "deletion")
			if t.wrong == "seal by load and store" {
				n := t.Load(rec.count)
				t.Store(rec.count, Seal)
				t.Ghost(func(v View) error { v.Set(t.taken[key], v.Get(t.taken[key])+n); return nil })
			} else {
				t.seal(at, key)
			}
			t.push(at)
			t.ignored(at)
		}
	}
	if t.wrong != "deletions are not waited for" {
		t.end()
	}
	t.ends()
}

// push puts a record on limbo.
func (t *thread) push(at Value) {
	for {
		head := t.Load(t.limbo)
		t.Store(t.records[at].link, head)
		if t.CompareAndSwap(t.limbo, head, at) {
			return
		}
	}
}

// unlink removes a record from the chain, if it is there.
func (t *thread) unlink(at Value) {
	for {
		before := t.Load(t.bucket)
		if before == at {
			if t.CompareAndSwap(t.bucket, at, t.Load(t.records[at].next)) {
				return
			}
			continue
		}
		for before != 0 {
			next := t.Load(t.records[before].next)
			if next == at {
				t.Store(t.records[before].next, t.Load(t.records[at].next))
				return
			}
			before = next
		}
		return
	}
}

// reclaim moves a batch from limbo to the free list, or goes on with one that a killed process has
// left.
func (t *thread) reclaim() {
	for {
		t.Lock(t.turn)
		missing, ticket := t.reclaimLocked()
		t.Unlock(t.turn)
		if missing == nil {
			t.ends()
			return
		}
		t.forget("missing", missing.process, ticket)
		t.Await("it has acknowledged", func(v View) bool { return !v.Held(missing.alive) || v.Get(missing.ack) >= ticket })
	}
}

// reclaimLocked returns an instance that has not acknowledged the ticket yet.
func (t *thread) reclaimLocked() (missing *instance, ticket Value) {
	phase := t.Load(t.phase)
	if phase == 0 {
		if !t.take() {
			return nil, 0
		}
		t.Store(t.phase, 1)
		phase = 1
	}
	t.forget("taken", phase)
	if phase == 1 {
		if t.wrong == "ticket before unlinking" {
			t.Store(t.ticket, t.Add(t.tickets, 1))
		}
		for at := t.Load(t.batch); at != 0; at = t.Load(t.records[at].link) {
			t.unlink(at)
		}
		if t.wrong != "ticket before unlinking" {
			t.Store(t.ticket, t.Add(t.tickets, 1))
		}
		t.Store(t.phase, 2)
	}
	t.forget("unlinked")
	ticket = t.Load(t.ticket)
	if t.Load(t.ack) < ticket {
		t.acknowledge(ticket)
		t.forget("acknowledged", ticket)
	}
	if t.wrong != "acknowledgements are not waited for" {
		for _, in := range t.instances {
			if in == t.instance {
				continue
			}
			if id := t.Load(in.id); id == 0 || id > ticket && t.wrong != "new instances are waited for" {
				continue
			}
			if t.Load(in.ack) < ticket && t.Held(in.alive) {
				return in, ticket
			}
		}
	}
	for {
		t.forget("freeing", ticket)
		at := t.Load(t.batch)
		if at == 0 {
			break
		}
		rec := t.records[at]
		next := t.Load(rec.link)
		if t.wrong != "free before leaving the batch" {
			t.Store(t.batch, next)
		}
		if t.wrong != "keep is ignored" && t.Load(rec.keep) == ticket {
			t.push(at)
		} else {
			t.Store(rec.link, t.Load(t.free))
			t.Store(t.free, at)
			t.Ghost(func(v View) error {
				if v.Get(rec.owner) == 0 {
					return fmt.Errorf("record %d is freed twice", at)
				}
				v.Set(rec.owner, 0)
				v.Set(rec.linked, 0)
				for _, in := range t.instances {
					v.Set(in.expected, v.Get(in.expected)&^(1<<at))
				}
				return nil
			})
		}
		if t.wrong == "free before leaving the batch" {
			t.Store(t.batch, next)
		}
	}
	t.Store(t.phase, 0)
	return nil, 0
}

// take makes limbo the batch. It reports whether there is one.
func (t *thread) take() bool {
	if first := t.Load(t.batch); first != 0 {
		// A killed process has stored it. Has it emptied limbo?
		at := t.Load(t.limbo)
		for at != 0 && at != first {
			at = t.Load(t.records[at].link)
		}
		if at != first {
			return true
		}
		if t.wrong == "a batch is taken for granted" {
			return true
		}
	}
	for {
		head := t.Load(t.limbo)
		if head == 0 {
			return false
		}
		t.Store(t.batch, head)
		if t.CompareAndSwap(t.limbo, head, 0) {
			return true
		}
	}
}

// acknowledge says that this instance has no pointers to records of the batch any more, but for
// those that it keeps.
func (t *thread) acknowledge(ticket Value) {
	if t.wrong != "drop before waiting" {
		t.await()
	}
	if t.wrong == "the collector is asked first" {
		t.keep(ticket)
	}
	t.drop()
	t.forget("dropped", ticket, t.dropped)
	// A page may have begun in the meantime, and have an entry that was dropped since.
	if t.wrong != "one wait" {
		t.await()
	}
	if t.wrong != "the collector is asked first" {
		t.keep(ticket)
	}
	t.Store(t.ack, ticket)
}

// await waits for what the other goroutines have begun.
func (t *thread) await() {
	if t.wrong == "operations are not waited for" {
		return
	}
	for g := range t.running[:2] {
		if g == t.number {
			continue
		}
		if n := t.Load(t.running[g]); n != 0 {
			t.Await("the operation has ended", func(v View) bool { return v.Get(t.running[g]) != n })
		}
	}
}

// drop seals the retired records that this process has pointers to, and drops these.
func (t *thread) drop() {
	t.dropped = nil
	if t.pages && t.wrong != "heads are kept" {
		t.Store(t.read, 0)
	}
	for k := range t.used {
		pointers := []Word{t.instrument[k]}
		if t.pages {
			pointers = append(pointers, t.entry[k])
		}
		for _, w := range pointers {
			if at := t.Load(w); at != 0 && t.Load(t.records[at].state) != 0 {
				t.seal(at, k)
				t.CompareAndSwap(w, at, 0)
				t.dropped = append(t.dropped, at)
			}
		}
	}
}

// keep keeps the retired records of instruments that the garbage collector says are in use. They
// need not point there any more.
func (t *thread) keep(ticket Value) {
	for g := range t.uses[:2] {
		at := t.Load(t.uses[g])
		if at == 0 || t.wrong == "kept once" && !slices.Contains(t.dropped, at) {
			continue
		}
		if t.Load(t.records[at].state) != 0 {
			t.Store(t.records[at].keep, ticket)
		}
	}
}

// join makes this process an instance.
func (t *thread) join() {
	id := t.Add(t.tickets, 1)
	t.Lock(t.alive)
	t.Store(t.id, id)
}

// leave makes this process no instance any more. An update that has loaded its pointer before may
// still add to the record, and is waited for like one that uses a deleted record.
func (t *thread) leave() {
	t.Store(t.closed, 1)
	t.await()
	for k := range t.used {
		t.Store(t.instrument[k], 0)
	}
	for _, w := range t.uses[:2] {
		if t.wrong != "leaves while instruments are used" {
			t.Await("the collector has the instruments", func(v View) bool { return v.Get(w) == 0 })
		}
	}
	if t.wrong != "leaves before the acknowledger has ended" {
		t.Store(t.closed, 2)
		t.Await("the acknowledger has ended", func(v View) bool { return v.Get(t.running[2]) == 0 })
	}
	t.Store(t.id, 0)
	t.Unlock(t.alive)
}

// page reads what is new in the chain into the page's entries, and then shows what they point to.
func (t *thread) page() {
	t.begin()
	last := t.Load(t.read)
	head := t.Load(t.bucket)
	t.Ghost(func(v View) error { // what the page must have
		expected := Value(0)
		for at := v.Get(t.bucket); at != 0; at = v.Get(t.records[at].next) {
			expected |= 1 << at
		}
		v.Set(t.expected, expected)
		return nil
	})
	for at := head; at != 0 && at != last; at = t.Load(t.records[at].next) {
		key := t.PlainLoad(t.records[at].key)
		if t.Load(t.records[at].state) == 0 {
			t.Store(t.entry[key-1], at)
		}
	}
	t.Store(t.read, head)
	t.Ghost(func(v View) error {
		for at, rec := range t.records {
			if at > 0 && v.Get(t.expected)&(1<<at) != 0 && v.Get(rec.state) == 0 && v.Get(t.entry[v.Get(rec.owner)-1]) != Value(at) {
				return fmt.Errorf("the page lacks record %d, which was there when it began", at)
			}
		}
		return nil
	})
	t.forget("read")
	if t.wrong == "pages are not waited for" {
		t.end()
	}
	for k := range t.used {
		if at := t.Load(t.entry[k]); at != 0 {
			if t.Load(t.records[at].state) != 0 {
				t.seal(at, k)
				t.ignored(at)
			} else {
				t.Load(t.records[at].count)
				t.mine(at, k, "page")
			}
		}
	}
	if t.wrong != "pages are not waited for" {
		t.end()
	}
	t.ends()
}
