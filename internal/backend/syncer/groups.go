package syncer

import (
	"bytes"
	"math"
	"math/bits"
	"slices"
)

// When there are many instances, most of what a chunk consists of has not changed when one of them
// has changed it. Therefore the instances are divided into groups, and this process keeps what
// each group has of a chunk, added up. Merging the chunk then takes those members whose group has
// changed, and one sum for each other group: with groups of about the square root of all
// instances, twice that root instead of all of them.
//
// A sum is encoded like a part of the base, so it is exact: the floats have their low words, and a
// group whose floats need more than that has no sum. What is not added up in columns, such as
// gauges, parts, windows and exemplars, is not in the sum: it is read from the members each time,
// in the same order as always. Counts that reach their limit depend on the order, so a chunk in
// which any could is merged without groups. So could the sign of a sum of zeros; but counters, and
// sums of histograms and summaries, start at 0, and never become -0.
//
// A group gets a sum of a chunk when the chunk is merged and no member has changed it since the
// last time. If all instances change all the time, no sums are made. A sum is only kept if it is
// not larger than the parts of the members, which are in memory anyway: sums at most double what
// this process keeps of the others, and take a fraction of that as a rule.

// leastGrouped is the number of instances from which on there are groups.
const leastGrouped = 32

// group is some instances that are adjacent in the order of merging.
type group struct {
	members []*contributor
	sums    map[uint32]*groupSum // by chunk; none: changed since the last merge
}

// groupSum is what a group has of a chunk.
type groupSum struct {
	layout *layout // of the chunk at that time
	known  bool    // it was added up; otherwise it has only been seen unchanged once
	each   bool    // adding it up is not possible, or does not pay
	data   []byte  // encoded like a part of the base
	rest   []restRecord
}

// restRecord is a record of a member that is not in the sum.
type restRecord struct {
	c       *contributor
	b       []byte // begins with the record
	version uint64
	next    uint32
}

const restSize = 56 // bytes of a restRecord

// layout is what the sums of a chunk depend on besides the words: which series has which number.
type layout struct {
	rows   []*row
	runLen [chunkSize]uint16
	single int // so many times the chunk is merged without groups
}

// singleTimes is for how long a chunk with counts near their limit is merged without groups.
const singleTimes = 16

// unit is what merging takes at once: an instance or a group.
type unit struct {
	c *contributor // nil: a group
	g *group
}

// groupSize returns how many members a group has, at most.
func groupSize(instances int) int { return 1 << (bits.Len(uint(instances)) / 2) }

// setChanged notes that a contributor has other words in a chunk than when it was last merged.
func (s *Syncer) setChanged(c *contributor, n uint32) {
	s.dirty[n] = true
	if c.within != nil {
		delete(c.within.sums, n)
	}
}

// units divides the instances, which are in the order of merging, into groups. Existing groups stay
// as they are if possible. This process is in no group, since it changes all the time.
func (s *Syncer) units(instances []*contributor) []unit {
	if len(instances) < max(s.grouped, 2) {
		if s.layouts != nil {
			s.layouts = nil
			for _, c := range instances {
				c.within = nil
			}
		}
		return nil
	}
	if s.layouts == nil {
		s.layouts = make(map[uint32]*layout)
	}
	size := groupSize(len(instances))
	var list []unit
	for len(instances) > 0 {
		if instances[0] == &s.self {
			list, instances = append(list, unit{c: &s.self}), instances[1:]
			continue
		}
		n := extent(instances, &s.self, size)
		list, instances = append(list, unit{g: groupOf(instances[:n])}), instances[n:]
	}
	return list
}

// extent returns how many instances from the first one on are a group: those of an existing one,
// with those that follow as long as there is room for all of theirs.
func extent(instances []*contributor, self *contributor, size int) (n int) {
	for n < len(instances) && instances[n] != self {
		first := instances[n].within
		more := 1
		for n+more < len(instances) && instances[n+more] != self && first != nil && instances[n+more].within == first {
			more++
		}
		if n > 0 && n+more > size {
			break
		}
		n += more
	}
	return n
}

// groupOf returns the group that has these members.
func groupOf(members []*contributor) *group {
	if g := members[0].within; g != nil && slices.Equal(g.members, members) {
		return g
	}
	g := &group{members: slices.Clone(members), sums: make(map[uint32]*groupSum)}
	for _, c := range members {
		c.within = g
	}
	return g
}

// layoutOf returns the layout of a chunk whose merging has begun.
func (s *Syncer) layoutOf(m *merger, n uint32) *layout {
	l := s.layouts[n]
	if l == nil || !slices.Equal(l.rows, m.rows) || !slices.Equal(l.runLen[:len(m.rows)], m.runLen[:len(m.rows)]) {
		l = &layout{rows: slices.Clone(m.rows), runLen: m.runLen}
		s.layouts[n] = l
	}
	return l
}

// addInstances adds what the base and all instances have of a chunk.
func (s *Syncer) addInstances(m *merger, n uint32) error {
	if m.units != nil {
		if len(m.rows) == 0 {
			delete(s.layouts, n)
		} else if l := s.layoutOf(m, n); l.single > 0 {
			l.single--
		} else if err := s.addUnits(m, n, l); err != nil {
			return err
		} else if m.bounded() {
			if s.compare != nil {
				s.compare(m, n)
			}
			return nil
		} else {
			l.single = singleTimes
			m.begin(m.rows)
		}
	}
	if err := s.addChunk(m, &s.base, n); err != nil {
		return err
	}
	return s.addEach(m, m.instances, n)
}

// addEach adds what instances have of a chunk.
func (s *Syncer) addEach(m *merger, list []*contributor, n uint32) error {
	for _, c := range list {
		if err := s.addChunk(m, c, n); err != nil {
			return err
		}
	}
	return nil
}

// addUnits is addInstances with groups.
func (s *Syncer) addUnits(m *merger, n uint32, l *layout) error {
	if err := s.addChunk(m, &s.base, n); err != nil {
		return err
	}
	for _, u := range m.units {
		if u.c != nil {
			if err := s.addChunk(m, u.c, n); err != nil {
				return err
			}
			continue
		}
		if err := s.addGroup(m, u.g, n, l); err != nil {
			return err
		}
	}
	return nil
}

// addGroup adds what the members of a group have of a chunk.
func (s *Syncer) addGroup(m *merger, g *group, n uint32, l *layout) error {
	sum := g.sums[n]
	if sum == nil || sum.layout != l {
		g.sums[n] = &groupSum{layout: l}
		return s.addEach(m, g.members, n)
	}
	if !sum.known && !sum.each {
		if err := s.sumUp(m, g, n, sum); err != nil {
			return err
		}
	}
	if sum.each {
		return s.addEach(m, g.members, n)
	}
	r := newChunkReader(sum.data, n, s.scratch)
	m.addRuns(&r, &s.dir)
	if len(r.b) > 0 || r.bad { // should not happen; the chunk is merged without groups then
		sum.each, m.most = true, math.MaxUint64
		return nil
	}
	for i := range sum.rest {
		if err := s.addRest(m, &sum.rest[i], n); err != nil {
			return err
		}
	}
	return nil
}

// sumUp adds up what the members of a group have of a chunk.
func (s *Syncer) sumUp(m *merger, g *group, n uint32, sum *groupSum) error {
	if m.inner == nil {
		m.inner = new(merger)
	}
	t, size := m.inner, 0
	sum.rest = nil
	t.unshown = m.unshown
	t.begin(m.rows)
	for _, c := range g.members {
		ch, ok := c.chunks[n]
		if !ok {
			continue
		}
		size += len(ch.data)
		r := newChunkReader(ch.data, n, s.scratch)
		for {
			t.addRuns(&r, &s.dir)
			rest := restRecord{c, r.b, r.version, r.next}
			if ok, err := r.readAny(&s.dir); err != nil {
				return err
			} else if !ok {
				break
			}
			sum.rest = append(sum.rest, rest)
			for r.left > 0 {
				r.nextInRun()
			}
		}
		s.scratch = r.buf
	}
	w := &s.writer
	w.begin(nil, n, t.newest)
	for i, has := range t.has[:len(t.rows)] {
		if has {
			w.entry(n<<chunkBits+uint32(i), t.rows[i].fam, t.words(i), t.lowOf(i))
		}
	}
	sum.data = bytes.Clone(w.end())
	sum.known = true
	if len(t.rests) > 0 || !t.bounded() || len(sum.data)+restSize*len(sum.rest) > size {
		*sum = groupSum{layout: sum.layout, each: true}
	}
	return nil
}

// addRest adds a record that is not in the sum of a group.
func (s *Syncer) addRest(m *merger, rest *restRecord, n uint32) error {
	r := chunkReader{b: rest.b, version: rest.version, next: rest.next, end: (n + 1) << chunkBits, buf: s.scratch}
	defer func() { s.scratch = r.buf }()
	for first := true; first || r.left > 0; first = false {
		if ok, err := r.readAny(&s.dir); !ok {
			return err
		}
		if r.counts(&s.dir) {
			s.addWords(m, int(r.id%chunkSize), r.row, rest.c, r.words, r.low)
		}
	}
	return nil
}
