package syncer

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
)

// checkGroups makes groups of even a few instances, and compares each chunk that is merged with
// groups with the same chunk merged without.
func (s *Syncer) checkGroups() {
	s.grouped = 2
	s.compare = func(m *merger, n uint32) {
		flat := &merger{instances: m.instances, now: m.now}
		flat.unshown = m.unshown
		flat.begin(m.rows)
		if err := s.addInstances(flat, n); err != nil {
			panic(err)
		}
		for i, r := range m.rows {
			if a, b := m.result(i), flat.result(i); !slices.Equal(a, b) {
				panic(fmt.Sprintf("%s{%s}: %x with groups, %x without", r.fam.schema, r.labels, a, b))
			}
		}
		if len(m.parts) != len(flat.parts) {
			panic(fmt.Sprintf("%d parts with groups, %d without", len(m.parts), len(flat.parts)))
		}
		for i, p := range m.parts {
			if q := flat.parts[i]; p.row != q.row || p.id != q.id || p.number != q.number || !slices.Equal(p.words, q.words) {
				panic(fmt.Sprintf("part %v with groups, %v without", p, q))
			}
		}
	}
}

// result returns the merged words of a series, with floats as round rounds them.
func (m *merger) result(i int) []uint64 {
	words := slices.Clone(m.words(i))
	if words == nil {
		return nil
	}
	for k, w := range m.rows[i].fam.floats {
		hi, lo := m.sum(i, k)
		s := exact.Sum{Hi: math.Float64frombits(*hi), Lo: math.Float64frombits(*lo), Rest: m.rests[restKey(i, k)]}
		words[w] = plain(math.Float64bits(s.Rounded()))
	}
	return words
}

// groupModel is a random history of instances and series, without a store.
type groupModel struct {
	t    *testing.T
	rnd  *rand.Rand
	s    *Syncer
	fams []*family
	last uint64 // name or id
	most uint64 // of counts, as a rule
}

func newGroupModel(t *testing.T, seed uint64) *groupModel {
	m := &groupModel{t: t, rnd: rand.New(rand.NewPCG(seed, 3)), s: newSingle(nil, options{manual: true}), most: 1000}
	m.s.checkGroups()
	m.s.dir.version, m.s.self.raw, m.s.self.head.join = 1, []byte{1}, 20
	if seed%4 == 0 {
		m.most = 1 << 40
	}
	for _, def := range fuzzFamilies() {
		def.Labels = []string{"x"}
		f := m.s.family(def)
		m.s.appendFamily(f, def.Help)
		if f.adding != addMerged || m.rnd.IntN(2) == 0 {
			m.fams = append(m.fams, f)
		}
	}
	for range 40 {
		m.assign()
	}
	return m
}

// assign gives a new series a number, perhaps one that a deleted series had.
func (m *groupModel) assign() {
	m.last++
	f := m.fams[m.rnd.IntN(len(m.fams))]
	for range 1 + m.rnd.IntN(5) {
		m.last++
		r := f.row(fmt.Sprintf("x=%q", fmt.Sprint(m.last)))
		rm := m.s.dir.room(f.list())
		id, _ := rm.next(&m.s.dir, new(change), r.size())
		m.s.dir.assign(r, id, slot{since: m.s.dir.version, born: birth(m.last)})
		m.s.dirty[chunkOf(r.id)] = true
	}
}

// words returns random words of a series.
func (m *groupModel) words(f *family) []uint64 {
	words := make([]uint64, f.stored)
	for i := range words {
		switch {
		case m.rnd.IntN(3) == 0:
		case i == f.start:
			words[i] = (1764000000000 + m.rnd.Uint64N(1e6)) * startUnit
		case f.isFloat(i):
			words[i] = math.Float64bits(tricky[m.rnd.IntN(len(tricky))])
			if m.rnd.IntN(200) == 0 {
				words[i] = math.Float64bits([]float64{math.Inf(1), math.MaxFloat64, -math.MaxFloat64, 3e300}[m.rnd.IntN(4)])
			}
		case f.def.Stripes == 0 && !f.blocks && f.isCount(i):
			if words[i] = m.rnd.Uint64N(m.most); m.rnd.IntN(2000) == 0 {
				words[i] = f.countLimit() - 1 - words[i]
			}
		case f.gauge || i < 2:
			words[i] = m.rnd.Uint64N(5)
		}
	}
	return words
}

// publish gives a contributor other words of a chunk, as an instance that knows a version of the
// directory.
func (m *groupModel) publish(c *contributor, n uint32, version uint64) {
	var w chunkWriter
	w.begin(nil, n, version)
	for _, r := range m.s.dir.chunk(n) {
		if r == nil || r.since > version || r.gone || m.rnd.IntN(50) == 0 {
			continue
		}
		var low []uint64
		if k := len(r.fam.floats); m.rnd.IntN(20) == 0 && !r.fam.parts && k > 0 {
			low = make([]uint64, k)
			low[m.rnd.IntN(k)] = math.Float64bits(tricky[m.rnd.IntN(len(tricky))])
		}
		w.entry(r.id, r.fam, m.words(r.fam), low)
	}
	m.last++
	c.chunks[n] = chunk{m.last, w.end()}
	m.s.setChanged(c, n)
}

func (m *groupModel) join() {
	m.last++
	c := &contributor{id: m.last*0x9e3779b97f4a7c15 | 1, chunks: make(map[uint32]chunk)}
	c.live, c.head.number = m.rnd.IntN(4) > 0, m.last
	if c.head.join = m.last; m.rnd.IntN(5) == 0 {
		c.head.join = m.rnd.Uint64N(m.last) // it comes back
	}
	for _, n := range m.numbers() {
		m.publish(c, n, m.s.dir.version)
	}
	m.s.others[c.id] = c
}

// numbers returns the numbers of all chunks.
func (m *groupModel) numbers() (list []uint32) {
	for l := range lists {
		list = slices.AppendSeq(list, maps.Keys(m.s.dir.rows[l]))
	}
	return list
}

// fold folds an instance into the base.
func (m *groupModel) fold(c *contributor) {
	words := make(map[uint32]map[uint32]entry)
	if err := m.s.addToBase(words, c); err != nil {
		m.t.Fatal(err)
	}
	m.last++
	fresh := make(map[uint32]chunk)
	for n, w := range words {
		fresh[n] = m.s.encode(n, w, m.last)
	}
	m.s.setBase(m.s.baseHead, []byte{1}, fresh)
	m.s.drop(c)
}

func (m *groupModel) merge() {
	if err := m.s.mergeAll(m.s.newMerger()); err != nil {
		m.t.Fatal(err)
	}
}

// With groups, pages are the same as without, whatever changes in between. All merging is compared
// by checkGroups.
func TestGroups(t *testing.T) {
	t.Parallel()
	used, compared := 0, 0
	for seed := range uint64(8) {
		m := newGroupModel(t, seed)
		compare := m.s.compare
		m.s.compare = func(mg *merger, n uint32) {
			compared++
			for _, u := range mg.units {
				if u.g != nil && u.g.sums[n].known {
					used++
				}
			}
			compare(mg, n)
		}
		for range 10 + m.rnd.IntN(60) {
			m.join()
		}
		for range 60 {
			all := slices.SortedFunc(maps.Values(m.s.others), func(a, b *contributor) int { return cmp.Compare(a.id, b.id) })
			c := all[m.rnd.IntN(len(all))]
			switch m.rnd.IntN(12) {
			case 0:
				m.join()
			case 1:
				m.fold(c)
			case 2:
				m.s.drop(c)
				m.join()
			case 3: // a series is deleted, and nobody has published that yet
				if rows := m.s.assigned(m.rnd.IntN(lists)); len(rows) > 0 {
					r := rows[m.rnd.IntN(len(rows))]
					m.s.detach(r)
					m.s.dirty[chunkOf(r.id)] = true
					if m.s.dir.version++; m.rnd.IntN(2) == 0 {
						m.s.deleted(r)
						m.assign()
					}
				}
			case 4:
				m.assign()
				m.s.dir.version++
			case 5:
				c.live = !c.live
				m.s.touch(c)
			case 6:
				m.publish(&m.s.self, m.numbers()[0], m.s.dir.version)
			case 7: // it loses a chunk
				for n := range c.chunks {
					delete(c.chunks, n)
					m.s.setChanged(c, n)
					break
				}
			default:
				for range 1 + m.rnd.IntN(3) {
					n := m.numbers()
					m.publish(c, n[m.rnd.IntN(len(n))], 1+m.rnd.Uint64N(m.s.dir.version))
					c = all[m.rnd.IntN(len(all))]
				}
			}
			m.merge()
		}
	}
	if used < 500 || used > 100*compared {
		t.Errorf("%d sums were used in %d chunks", used, compared)
	}
	t.Logf("%d sums were used in %d chunks", used, compared)
}

// A chunk in which one instance has changed takes its group, and the sums of the others. Sums are
// made when they can be used, and are no larger than what they replace.
func TestGroupSums(t *testing.T) {
	t.Parallel()
	s, change := fleet(&backend.Family{Name: "c_total", Help: "C.", Kind: backend.Counter, Labels: []string{"x"}}, 1000, 300)
	merge := func(want int) (known int) {
		t.Helper()
		if err := s.mergeAll(s.newMerger()); err != nil {
			t.Fatal(err)
		}
		groups := make(map[*group]bool)
		for _, c := range s.others {
			if !groups[c.within] {
				if groups[c.within] = true; c.within.sums[0].known {
					known++
					size := 0
					for _, c := range c.within.members {
						size += len(c.chunks[0].data)
					}
					if sum := c.within.sums[0]; sum.each || len(sum.data)*4 > size || len(sum.rest) > 0 {
						t.Errorf("a sum has %d bytes and %d records, its members have %d bytes", len(sum.data), len(sum.rest), size)
					}
				}
			}
		}
		if len(groups) != 32 || known != want {
			t.Errorf("%d groups, %d sums of the first chunk, want 32 and %d", len(groups), known, want)
		}
		return known
	}
	merge(0)
	change(500, 0)
	merge(31)
	change(500, 0)
	merge(31)
	change(1, 0)
	merge(31) // the other one has its sum again
	for id := range s.others {
		change(id, 0)
	}
	merge(0)
	change(500, 1)
	merge(0)
	c := s.others[77]
	change(1, 0)
	s.drop(c)
	merge(30)
}

// Counts that reach their limit, floats that need more than two words, and what is not finite are
// the same with groups as without.
func TestGroupLimits(t *testing.T) {
	t.Parallel()
	type values map[int]uint64 // by place in the order of joining
	float := math.Float64bits
	for _, def := range []*backend.Family{
		{Name: "c_total", Help: "C.", Kind: backend.Counter},
		{Name: "h", Help: "H.", Kind: backend.Histogram, Buckets: []float64{1, 2}},
	} {
		limit := newSingle(nil, options{manual: true}).family(def).countLimit()
		for what, v := range map[string]struct {
			ints, floats values
			grouped      bool // in the end
		}{
			"small":               {grouped: true},
			"a large count":       {ints: values{9: limit - 5}},
			"two large counts":    {ints: values{9: limit - 5, 10: limit - 7}},
			"in different groups": {ints: values{1: limit/2 + 1, 9: limit - 5, 17: 77, 30: limit / 2}},
			"all together":        {ints: values{0: limit / 3, 8: limit / 3, 16: limit / 3, 24: limit / 3}},
			"half":                {floats: values{8: float(1), 9: float(0x1p-53)}, grouped: true},
			"a rest":              {floats: values{8: float(1), 9: float(0x1p-53), 10: float(0x1p-161)}, grouped: true},
			"in another group":    {floats: values{8: float(1), 9: float(0x1p-53), 17: float(0x1p-161)}, grouped: true},
			"infinite":            {floats: values{8: float(1), 9: float(math.Inf(1)), 10: float(0x1p-53)}, grouped: true},
			"not a number":        {floats: values{8: float(math.Inf(-1)), 9: float(0x1p-53), 17: float(math.Inf(1))}, grouped: true},
			"over the largest":    {floats: values{8: float(math.MaxFloat64), 9: float(math.MaxFloat64), 17: float(-math.MaxFloat64)}, grouped: true},
		} {
			s := newSingle(nil, options{manual: true})
			s.checkGroups()
			f, compare, compared := s.family(def), s.compare, 0
			s.compare = func(m *merger, n uint32) {
				compared++
				compare(m, n)
			}
			s.appendFamily(f, def.Help)
			s.assignNext(f.row(""))
			words := make([]uint64, f.stored)
			publish := func(i int) {
				for w := range words {
					switch {
					case f.isFloat(w):
						words[w] = v.floats[i]
					case f.isCount(w):
						words[w] = cmp.Or(v.ints[i], 1)
					}
				}
				var w chunkWriter
				w.begin(nil, 0, 1)
				w.entry(0, f, words, nil)
				c := s.others[uint64(i+1)]
				if c == nil {
					c = &contributor{id: uint64(i + 1), chunks: make(map[uint32]chunk)}
					c.head.join = c.id
					s.others[c.id] = c
				}
				c.chunks[0] = chunk{1, w.end()}
				s.setChanged(c, 0)
			}
			for i := range 40 {
				publish(i)
			}
			for range 4 {
				if err := s.mergeAll(s.newMerger()); err != nil {
					t.Fatal(err)
				}
				publish(39)
			}
			if want := map[bool]int{true: 4}[v.grouped]; compared != want {
				t.Errorf("%s, %s: was merged %d times with groups, want %d", def.Name, what, compared, want)
			}
		}
	}
}
