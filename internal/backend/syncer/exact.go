package syncer

import (
	"math"
	"math/bits"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
)

// Sums of floats must not decrease: a scraper would take that for a restart, and count the whole
// value again. When instances join, leave or are folded, the order in which their floats are added
// changes. Therefore floats are added up exactly, and rounded once, for the page. A float word of
// the base has a second word, the low one, which holds what the first lacks of the exact sum. If
// two words do not have enough bits, the low one is rounded up, so that folding an instance makes
// no sum smaller.

// leadingWords is how many words there are up to the last one that can be a float.
const leadingWords = 1 + max(backend.CounterFloat, backend.HistogramSum, backend.SummarySum, backend.GaugeValue, gaugeBase)

// floatWords returns which words are floats that are added up.
func (f *family) floatWords() (list []int) {
	step := f.stored
	if f.def.Stripes != 0 {
		step = f.def.StripeWords()
	}
	for at := 0; at < f.stored && !f.parts; at += step {
		for i := at; i < min(at+leadingWords, f.stored); i++ {
			if f.isFloat(i) && (!f.gauge || i == gaugeAdded) {
				list = append(list, i)
			}
		}
	}
	return list
}

// withoutFloats is f.merge for all words but the floats that are added up exactly. What remains in
// these words came from integers that overflowed. src is as before afterwards.
func (f *family) withoutFloats(dst, src []uint64) []uint64 {
	var few [4]uint64
	held := few[:0]
	for _, w := range f.floats {
		held = append(held, src[w])
		dst[w], src[w] = 0, 0
	}
	dst = f.merge(dst, src)
	for k, w := range f.floats {
		src[w] = held[k]
	}
	return dst
}

// fold adds src, an instance's words of a series, to dst, those of the base, exactly or rounded up.
// Either may have low words. fold changes dst and dstLow; it returns them, or larger ones.
func (f *family) fold(dst, dstLow, src, srcLow []uint64) (words, low []uint64) {
	sums := make([]exact.Sum, len(f.floats))
	for k, w := range f.floats {
		sums[k].Add(math.Float64frombits(dst[w]))
		sums[k].Add(math.Float64frombits(src[w]))
		for _, l := range [][]uint64{dstLow, srcLow} {
			if l != nil {
				sums[k].Add(math.Float64frombits(l[k]))
			}
		}
	}
	words = f.withoutFloats(dst, src)
	low = dstLow
	clear(low)
	for k, w := range f.floats {
		sums[k].Add(math.Float64frombits(words[w]))
		hi, lo := sums[k].Split()
		words[w] = plain(math.Float64bits(hi))
		if lo == 0 {
			continue
		}
		if low == nil {
			low = make([]uint64, len(f.floats))
		}
		low[k] = math.Float64bits(lo)
	}
	if isZero(low) {
		low = nil
	}
	return words, low
}

// exactSums are those parts of the sums of floats in a merger that float words lack. After the
// words of a series, or the columns of a run, acc has a low word, or a column of them, for each of
// its floats. Few sums need more than that.
type exactSums struct {
	inexact bool                   // a low word or a rest is not zero
	rests   map[uint32]*exact.Rest // by restKey
	held    []uint64
}

func restKey(i, k int) uint32 { return uint32(i*backend.MaxStripes + k) }

func (e *exactSums) reset() {
	e.inexact = false
	clear(e.rests)
}

// low returns the low words of a series without columns.
func (m *merger) low(i int) []uint64 {
	n := len(m.rows[i].fam.floats)
	if m.at[i] < 0 {
		return zeros[:n]
	}
	return m.acc[m.at[i]+m.size[i]:][:n]
}

// lowOf returns the low words of a series in a column, valid until the next call; nil if all are
// zero.
func (m *merger) lowOf(i int) []uint64 {
	if !m.inexact {
		return nil
	}
	m.held = m.held[:0]
	for k := range m.rows[i].fam.floats {
		_, lo := m.sum(i, k)
		m.held = append(m.held, *lo)
	}
	if isZero(m.held) {
		return nil
	}
	return m.held
}

var zeros [backend.MaxStripes]uint64 // never modified

// sum returns float k of a series, and its low word.
func (m *merger) sum(i, k int) (hi, lo *uint64) {
	at, step := m.at[i], m.step[i]
	return &m.acc[at+m.rows[i].fam.floats[k]*step], &m.acc[at+(m.size[i]+k)*step]
}

// addFloat adds to float k of a series.
func (m *merger) addFloat(i, k int, v uint64) {
	hi, lo := m.sum(i, k)
	switch { // also preserves -0
	case v == 0:
		return
	case *hi == 0:
		*hi = v
		return
	}
	h, l, rest := exact.Add(math.Float64frombits(*hi), math.Float64frombits(*lo), math.Float64frombits(v))
	*hi, *lo = math.Float64bits(h), math.Float64bits(l)
	if rest != 0 {
		m.addRest(i, k, rest)
	}
	m.inexact = m.inexact || l != 0
}

func (m *merger) addRest(i, k int, v float64) {
	if m.rests == nil {
		m.rests = make(map[uint32]*exact.Rest)
	}
	key := restKey(i, k)
	if m.rests[key] == nil {
		m.rests[key] = new(exact.Rest)
	}
	m.rests[key].Add(v)
	m.inexact = true
}

// addColumn adds a column to the floats in dst, those of adjacent series from i on, which have one
// float each.
func (m *merger) addColumn(c *column, i int, dst []uint64) {
	low := m.acc[m.at[i]+m.size[i]*m.step[i]:][:len(dst)]
	lows := uint64(0)
	for j, old := range dst {
		v := bits.ReverseBytes64(c.at(j))
		switch {
		case v == 0:
			continue
		case old == 0:
			dst[j] = v
			continue
		}
		h, l, rest := exact.Add(math.Float64frombits(old), math.Float64frombits(low[j]), math.Float64frombits(v))
		dst[j], low[j] = math.Float64bits(h), math.Float64bits(l)
		if lows |= low[j]; rest != 0 {
			m.addRest(i+j, 0, rest)
		}
	}
	m.inexact = m.inexact || lows != 0
}

// addLow adds the low record that b starts with to n series from i on, and returns the bytes after
// it. It returns false if the record has an error.
func (m *merger) addLow(b []byte, i, n int) (rest []byte, ok bool) {
	f := m.rows[i].fam
	columns, rest, ok := lowColumns(b, f, n)
	for k := range columns {
		m.addColumn(&columns[k], i, m.acc[m.at[i]+f.floats[k]*m.step[i]:][:n])
	}
	return rest, ok
}

// add adds a contributor's words of a series.
func (m *merger) add(i int, words, low []uint64) {
	f, into := m.rows[i].fam, m.words(i)
	if into == nil {
		m.set(i, words)
		for k := range f.floats {
			_, lo := m.sum(i, k)
			*lo = 0
			delete(m.rests, restKey(i, k))
		}
	} else {
		m.held = m.held[:0]
		for _, w := range f.floats {
			m.held = append(m.held, into[w])
		}
		into = f.withoutFloats(into, words)
		for k, w := range f.floats {
			into[w], m.held[k] = m.held[k], into[w]
		}
		m.set(i, into)
		for k, w := range f.floats {
			m.addFloat(i, k, m.held[k]) // from integers
			m.addFloat(i, k, words[w])
		}
	}
	for k, v := range low {
		m.addFloat(i, k, v)
	}
}

// round rounds all sums of floats, when everything has been added.
func (m *merger) round() {
	if !m.inexact {
		return
	}
	for i, r := range m.rows {
		if !m.has[i] {
			continue
		}
		for k := range r.fam.floats {
			hi, lo := m.sum(i, k)
			s := exact.Sum{Hi: math.Float64frombits(*hi), Lo: math.Float64frombits(*lo)}
			if len(m.rests) > 0 {
				s.Rest = m.rests[restKey(i, k)]
			}
			*hi = math.Float64bits(s.Rounded())
		}
	}
}
