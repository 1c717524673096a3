// Package lookup finds the instrument for label values without a lock or an allocation.
package lookup

// Table finds the instruments of a family by their label values.
type Table[M any] struct {
	set[Entry[M]]
	text   *Text
	labels func(*M) string // returns the label text of an instrument
}

// Init must be called before any other method.
func (t *Table[M]) Init(text *Text, labels func(*M) string) { t.text, t.labels = text, labels }

// Entry begins with what a look-up and the update after it read. If M is a counter, that is one
// cache line, which is never written again; the row and the words follow in the next one.
type Entry[M any] struct {
	identity
	M M
}

// NewEntry returns an entry for values in the family's order.
func NewEntry[M any](values []string) *Entry[M] { return &Entry[M]{identity: identify(values)} }

// Find2 returns the entry for two values in the family's order, or nil. This is the most frequent
// case: values of at most 16 bytes are hashed and compared in registers.
func (t *Table[M]) Find2(v, w string) *Entry[M] {
	if len(v) > maxShort || len(w) > maxShort {
		return t.findMany([]string{v, w})
	}
	// The following is identify, written out: calling it would make a look-up take half as long
	// again.
	var a, b, c, d uint64
	if n := len(v); n >= 8 {
		a, b = load64(v), load64(v[n-8:])
	} else {
		a, b = endsOfFew(v)
	}
	if n := len(w); n >= 8 {
		c, d = load64(w), load64(w[n-8:])
	} else {
		c, d = endsOfFew(w)
	}
	lengths := uint64(len(v))<<8 | uint64(len(w))
	h := fold(a^seedA, b^seedB) + fold(c^(seedA+seedStep), d^seedB) + lengths*seedLen
	if len(v) > maxWhole || len(w) > maxWhole {
		h += hashMiddle(seedA, v) + hashMiddle(seedA+seedStep, w)
	}
	id := h&^(1<<32-1) | lengths
	p := t.slots.Load()
	if p == nil || len(*p) == 0 {
		return nil
	}
	slots := *p
	for i := id >> 32; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		if e == nil {
			return nil
		}
		if e.id == id && (e.a^a)|(e.b^b)|(e.c^c)|(e.d^d) == 0 &&
			(len(v) <= maxWhole && len(w) <= maxWhole || t.text.same(t.labels(&e.M), []string{v, w}, true)) {
			return e
		}
	}
}

// Find1 is Find2 for one value.
func (t *Table[M]) Find1(v string) *Entry[M] {
	if len(v) > maxShort {
		return t.findMany([]string{v})
	}
	a, b := ends(v)
	id := identifyOne(v, a, b)
	p := t.slots.Load()
	if p == nil || len(*p) == 0 {
		return nil
	}
	slots := *p
	for i := id >> 32; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		if e == nil {
			return nil
		}
		if e.id == id && (e.a^a)|(e.b^b) == 0 && (len(v) <= maxWhole || t.text.same(t.labels(&e.M), []string{v}, true)) {
			return e
		}
	}
}

// Find returns the entry for values in the family's order, or nil. It does not retain the slice.
func (t *Table[M]) Find(values []string) *Entry[M] {
	switch len(values) {
	case 1:
		return t.Find1(values[0])
	case 2:
		return t.Find2(values[0], values[1])
	}
	return t.findMany(values)
}

func (t *Table[M]) findMany(values []string) *Entry[M] {
	x := identifyMany(values)
	p := t.slots.Load()
	if p == nil || len(*p) == 0 {
		return nil
	}
	slots := *p
	for i := x.id >> 32; ; i++ {
		e := slots[i&uint64(len(slots)-1)].Load()
		if e == nil {
			return nil
		}
		if e.id == x.id && (e.a^x.a)|(e.b^x.b) == 0 && t.text.same(t.labels(&e.M), values, x.a != noLengths) {
			return e
		}
	}
}

// Add adds an entry that Find has not found. The caller holds the family's lock.
func (t *Table[M]) Add(e *Entry[M]) { t.add(e, (*Entry[M]).slot) }

// Remove removes an entry of the table. A concurrent Find may still return it. The caller holds the
// family's lock.
func (t *Table[M]) Remove(e *Entry[M]) {
	mark := t.mark.Load()
	if mark == nil {
		mark = &Entry[M]{identity: identity{id: noID}}
	}
	t.remove(e, mark, (*Entry[M]).slot)
}

// slot returns where the search for e starts.
func (e *Entry[M]) slot() uint64 { return e.id >> 32 }
