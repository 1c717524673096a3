package syncer

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Most series are counters, or have a fixed number of words that add up independently. Runs of such
// series are added column by column, at about 1 ns per word. All others go through chunkReader and
// family.merge, with the same result.

type adding uint8

const (
	addMerged adding = iota // by family.merge
	addCounters
	addWords
)

func (f *family) addingKind() adding {
	if f.def == nil || f.parts || f.shared || f.blocks || f.gauge || f.def.Stripes != 0 {
		return addMerged
	}
	if f.kind == backend.Counter {
		return addCounters
	}
	for i := range f.stored {
		if !f.isFloat(i) && !f.isCount(i) && i != f.start {
			return addMerged
		}
	}
	return addWords
}

// merger adds up the words of one chunk.
type merger struct {
	instances []*contributor
	units     []unit    // the same, in groups; nil: there are too few
	inner     *merger   // for sums of groups
	now       time.Time // by the clock of quantile windows; zero: not known
	rows      []*row    // of the chunk
	unshown   [chunkSize]bool
	made      [chunkSize]backend.Words // new words of a series; nil: it needs none

	// The words of adjacent series with the same layout are stored in columns.
	runLen [chunkSize]uint16 // number of series from this one on that can be added as one run
	has    [chunkSize]bool   // at least one contributor has words of the series
	at     [chunkSize]int    // position of the first word in acc; -1: none yet
	step   [chunkSize]int    // distance between the series' words in acc
	size   [chunkSize]int    // number of words
	acc    []uint64
	most   uint64 // upper bound of all counts
	oldest span
	newest uint64 // version of the directory in which the last of the numbers was assigned

	exactSums
	parts   []instancePart
	scratch []uint64
}

// span is a range of series that all have words and starts, none of them later than latest.
type span struct {
	from, to int
	latest   uint64
}

func (s span) has(from, to int) bool { return s.from <= from && to <= s.to }

// begin starts the merging of some series: of a chunk, or without numbers. unshown has the places
// of those that are not merged.
func (m *merger) begin(rows []*row) {
	m.rows = rows
	m.exactSums.reset()
	m.parts, m.most, m.oldest, m.newest = m.parts[:0], 0, span{}, 0
	for i := len(m.rows) - 1; i >= 0; i-- {
		r := m.rows[i]
		if r != nil {
			m.newest = max(m.newest, r.since)
		}
		switch {
		case r == nil || m.unshown[i] || r.fam.adding == addMerged:
			m.runLen[i] = 0
		case i+1 < len(m.rows) && m.runLen[i+1] > 0 && m.rows[i+1].fam == r.fam && (i+1)%r.fam.adjacent != 0:
			m.runLen[i] = m.runLen[i+1] + 1
		default:
			m.runLen[i] = 1
		}
	}
	first := 0 // of the series in columns
	for i, r := range m.rows {
		m.has[i], m.at[i], m.step[i], m.size[i] = false, -1, 1, 0
		if r == nil {
			continue
		}
		f := r.fam
		m.size[i] = f.stored
		if m.runLen[i] == 0 {
			continue
		}
		if i == 0 || m.runLen[i-1] != m.runLen[i]+1 {
			first = i
		}
		m.step[i] = int(m.runLen[first])
	}
	m.acc = m.acc[:0]
}

// reserve makes the columns that a series is in, if it is in any.
func (m *merger) reserve(i int) {
	if m.runLen[i] == 0 || m.at[i] >= 0 {
		return
	}
	f, n, first := m.rows[i].fam, m.step[i], i+int(m.runLen[i])-m.step[i]
	at, size := len(m.acc), n*(f.stored+len(f.floats))
	m.acc = slices.Grow(m.acc, size)[:at+size]
	clear(m.acc[at:])
	for j := range n {
		m.at[first+j] = at + j
	}
}

// words returns the merged words of a series, valid until the next call; nil if no contributor has
// any.
func (m *merger) words(i int) []uint64 {
	if !m.has[i] {
		return nil
	}
	at, step := m.at[i], m.step[i]
	if step == 1 {
		return m.acc[at:][:m.size[i]]
	}
	m.scratch = m.scratch[:0]
	for range m.size[i] {
		m.scratch = append(m.scratch, m.acc[at])
		at += step
	}
	return m.scratch
}

// bounded reports whether no count can have reached its limit, so that the order in which columns
// were added makes no difference.
func (m *merger) bounded() bool { return m.most != math.MaxUint64 }

// set replaces the merged words of a series.
func (m *merger) set(i int, words []uint64) {
	if m.has[i] = true; m.runLen[i] > 0 { // other series are not added in columns
		m.most = math.MaxUint64
		m.reserve(i)
	}
	if m.at[i] < 0 || m.size[i] != len(words) {
		low := m.low(i)
		m.at[i], m.size[i] = len(m.acc), len(words)
		m.acc = append(append(m.acc, words...), low...)
		return
	}
	for w, v := range words {
		m.acc[m.at[i]+w*m.step[i]] = v
	}
}

// addRuns adds runs from r until it meets a record that chunkReader has to handle; r then continues
// with that record.
func (m *merger) addRuns(r *chunkReader, d *directory) {
	for r.left == 0 && !r.bad && len(r.b) > 0 {
		old := *r
		if !m.addRun(r, d) {
			*r = old
			return
		}
	}
}

// addRun adds one run. If it returns false, it has added nothing, or the record has an error that
// chunkReader will report.
func (m *merger) addRun(r *chunkReader, d *directory) bool {
	kind, id, f, ok := r.record(d)
	at := id % chunkSize
	if !ok || kind != recordRun || at >= uint32(len(m.rows)) {
		return false
	}
	many, ok := r.num()
	if !ok || many == 0 || many > uint64(m.runLen[at]) || m.rows[at].fam != f {
		return false // spans several families, or includes special series
	}
	i, n := int(at), int(many)
	if r.version < m.newest { // some words in the chunk may be of deleted series
		for _, row := range m.rows[i:][:n] {
			if r.version < row.since {
				return false
			}
		}
	}
	m.reserve(i)
	b := r.b
	var c column
	known := m.oldest.has(i, i+n)
	limit, most := f.countLimit(), m.most
	for w := range f.stored {
		dst := m.acc[m.at[i]+w*m.step[i]:][:n]
		if w == f.start {
			var base uint64
			if c, base, b, ok = takeStarts(b, n); !ok {
				return false
			}
			if !known || (base+1)*startUnit < m.oldest.latest {
				m.addStarts(&c, dst, i, base)
			}
			continue
		}
		if c, b, ok = takeColumn(b, n); !ok {
			return false
		}
		switch {
		case c.width == 0:
		case f.isFloat(w):
			m.addColumn(&c, i, dst)
		case c.mask < limit && most < limit-c.mask:
			m.most = max(m.most, most+c.mask)
			c.add(dst)
		case f.adding == addCounters:
			m.most = math.MaxUint64
			m.addInts(&c, i, dst)
		default:
			m.most = math.MaxUint64
			c.addCounts(dst, limit)
		}
	}
	if startsLow(b) {
		if b, ok = m.addLow(b, i, n); !ok {
			return false
		}
	}
	if !known {
		for j := range m.has[i:][:n] {
			m.has[i+j] = true
		}
	}
	r.b, r.next = b, id+uint32(n)
	return true
}

// add adds counts whose sums are far below the limit.
func (c *column) add(dst []uint64) {
	b, fast := c.b, c.fastLen()
	switch c.width {
	case 1:
		b = b[:len(dst)]
		for i := range dst {
			dst[i] += uint64(b[i])
		}
		return
	case 2:
		for i := range dst {
			dst[i] += uint64(binary.LittleEndian.Uint16(b))
			b = b[2:]
		}
		return
	case 4:
		for i := range dst {
			dst[i] += uint64(binary.LittleEndian.Uint32(b))
			b = b[4:]
		}
		return
	}
	mask, width := c.mask, c.width
	head, tail := dst[:fast], dst[fast:]
	for i := range head {
		head[i] += binary.LittleEndian.Uint64(b) & mask
		b = b[width:]
	}
	for i := range tail {
		tail[i] += c.at(fast + i)
	}
}

// fastLen returns how many leading values can be loaded as 8 bytes at once.
func (c *column) fastLen() int {
	if c.width == 0 {
		return 0
	}
	return min(c.n, max(0, (len(c.b)-8)/c.width))
}

// addInts adds integers of counters; overflow goes to the float words, as in an update.
func (m *merger) addInts(c *column, i int, dst []uint64) {
	for j := range dst {
		v := c.at(j)
		if n := dst[j] + v; v < backend.IntLimit && n < backend.IntLimit {
			dst[j] = n
		} else {
			m.addFloat(i+j, 0, math.Float64bits(float64(v)))
		}
	}
}

func (c *column) addCounts(dst []uint64, limit uint64) {
	for i := range dst {
		dst[i] = addCounts(dst[i], c.at(i), limit)
	}
}

// addStarts keeps the earliest start of each series from i on.
func (m *merger) addStarts(c *column, dst []uint64, i int, base uint64) {
	latest := uint64(0)
	for j := range dst {
		v := c.startAt(j, base)
		if old := dst[j]; v != 0 && (v < old || old == 0) {
			dst[j] = v
		}
		latest = max(latest, dst[j]-1) // wraps to the maximum if a start is not known
	}
	if latest != math.MaxUint64 && len(dst) >= m.oldest.to-m.oldest.from {
		m.oldest = span{i, i + len(dst), latest + 1}
	}
}
