package gotheus

import (
	"strings"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// table finds the series of a family by their label values, without a lock and without an allocation.
// It is an open-addressing hash table: an entry is immutable once it is in a slot, entries are only
// added, and a table that fills up is replaced by one of twice the size. A reader that still has the
// old one misses what came later and goes the slow way, under the family's lock.
type table[M Instrument] struct {
	slots atomic.Pointer[[]slot[M]] // a power of two, never more than half full
	n     atomic.Int64              // entries; changed under the family's lock
	text  *textPlan                 // the family's

	overflow atomic.Pointer[entry[M]] // also in slots; nil until it is needed

	free map[*entry[M]]bool // those that do not count for the family's limit of series; guarded by the family's lock
}

type slot[M Instrument] = atomic.Pointer[entry[M]]

// entry begins with what a look-up and the update after it read. If M is Counter, that is one cache line, which nobody
// writes to, and the rest, the row and the words, is another one: the size is 128 bytes, to which the runtime aligns it.
// TestEntryOfCounter holds it to that.
type entry[M Instrument] struct {
	identity
	m M
}

// text returns the label text.
func (e *entry[M]) text() string {
	switch m := any(&e.m).(type) { // a call by the interface instrument would take longer
	case *Counter:
		return m.row.Labels
	case *Histogram:
		return m.row.Labels
	case *Gauge:
		return m.row.Labels
	case *Summary:
		return m.row.Labels
	}
	return any(&e.m).(instrument).base().row.Labels
}

// find2 returns the entry for two values in the family's order, or nil. It is find for what is most frequent:
// values of at most 16 bytes are hashed and compared in registers.
func (t *table[M]) find2(v, w string) *entry[M] {
	if len(v) > shortMost || len(w) > shortMost {
		return t.findMany([]string{v, w})
	}
	// What follows is identify, written out: calls would cost half as much again.
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
	if len(v) > wholeMost || len(w) > wholeMost {
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
			(len(v) <= wholeMost && len(w) <= wholeMost || t.text.same(e.text(), []string{v, w}, true)) {
			return e
		}
	}
}

// find1 is find2 for one value.
func (t *table[M]) find1(v string) *entry[M] {
	if len(v) > shortMost {
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
		if e.id == id && (e.a^a)|(e.b^b) == 0 && (len(v) <= wholeMost || t.text.same(e.text(), []string{v}, true)) {
			return e
		}
	}
}

// find returns the entry for values in the family's order, or nil. It does not keep them.
func (t *table[M]) find(values []string) *entry[M] {
	switch len(values) {
	case 1:
		return t.find1(values[0])
	case 2:
		return t.find2(values[0], values[1])
	}
	return t.findMany(values)
}

func (t *table[M]) findMany(values []string) *entry[M] {
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
		if e.id == x.id && (e.a^x.a)|(e.b^x.b) == 0 && t.text.same(e.text(), values, x.a != noLengths) {
			return e
		}
	}
}

// state is one of a table's. If it is the same as before, nothing was added in between: a table that is replaced has other
// slots.
type state[M Instrument] struct {
	slots *[]slot[M]
	n     int64
}

func (t *table[M]) state() state[M] { return state[M]{t.slots.Load(), t.n.Load()} }

// add adds an entry that find has not found. The family's lock is held.
func (t *table[M]) add(e *entry[M]) {
	var slots []slot[M]
	if p := t.slots.Load(); p != nil {
		slots = *p
	}
	n := int(t.n.Load()) + 1
	if n > len(slots)/2 {
		larger := make([]slot[M], max(4, 2*len(slots)))
		for i := range slots {
			if old := slots[i].Load(); old != nil {
				insert(larger, old)
			}
		}
		insert(larger, e)
		t.slots.Store(&larger)
	} else {
		insert(slots, e)
	}
	t.n.Store(int64(n))
}

func insert[M Instrument](slots []slot[M], e *entry[M]) {
	mask := uint64(len(slots) - 1)
	i := e.id >> 32
	for slots[i&mask].Load() != nil {
		i++
	}
	slots[i&mask].Store(e)
}

// textPlan is how the label text of a family's series is made of the values of its open labels.
type textPlan struct {
	gaps []string // what is before, between and behind the values
	size int      // of all gaps
}

// planText makes the plan for labels, ascending, of which those in constant have these values.
func planText(labels []string, constant Labels) *textPlan {
	p, gap := new(textPlan), ""
	for _, name := range labels {
		value, ok := constant[name]
		if gap = backend.AppendLabel(gap, name, value); !ok {
			p.add(gap[:len(gap)-1])
			gap = `"`
		}
	}
	p.add(gap)
	return p
}

func (p *textPlan) add(gap string) {
	p.gaps = append(p.gaps, gap)
	p.size += len(gap)
}

// write returns the label text of the series with these values. It does not keep them.
func (p *textPlan) write(values []string) string {
	size, escaped := p.size, 0
	for _, v := range values {
		size += len(v)
		for i := range len(v) {
			if special(v[i]) {
				escaped++
			}
		}
	}
	var b strings.Builder
	b.Grow(size + escaped)
	for i, v := range values {
		b.WriteString(p.gaps[i])
		if escaped == 0 {
			b.WriteString(v)
		} else {
			writeEscaped(&b, v)
		}
	}
	b.WriteString(p.gaps[len(values)])
	return b.String()
}

func special(c byte) bool { return c == '"' || c == '\\' || c == '\n' }

func writeEscaped(b *strings.Builder, v string) {
	for i := range len(v) {
		if special(v[i]) {
			b.WriteByte('\\')
		}
		b.WriteByte(escape(v[i]))
	}
}

// escape returns what a special character is behind the backslash.
func escape(c byte) byte {
	if c == '\n' {
		return 'n'
	}
	return c
}

// same reports whether a label text is that of these values. alike says that they have the lengths of those that it
// was made of, so that bytes can be compared where they are unless some were escaped.
func (p *textPlan) same(text string, values []string, alike bool) bool {
	if !alike {
		return p.sameEscaped(text, values)
	}
	at := 0
	for i, v := range values {
		at += len(p.gaps[i])
		if len(text)-at < len(v) || text[at:at+len(v)] != v {
			return p.sameEscaped(text, values)
		}
		at += len(v)
	}
	return at+len(p.gaps[len(values)]) == len(text) || p.sameEscaped(text, values)
}

func (p *textPlan) sameEscaped(text string, values []string) bool {
	for i, v := range values {
		rest, ok := strings.CutPrefix(text, p.gaps[i])
		if !ok {
			return false
		}
		for i := range len(v) {
			c := v[i]
			if special(c) {
				if rest == "" || rest[0] != '\\' {
					return false
				}
				rest, c = rest[1:], escape(c)
			}
			if rest == "" || rest[0] != c {
				return false
			}
			rest = rest[1:]
		}
		text = rest
	}
	return text == p.gaps[len(values)]
}
