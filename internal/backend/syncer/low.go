package syncer

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
)

// lowRun is the content of a low record: what the float words of the series in one run, or of one
// varying series, lack.
type lowRun struct {
	words []uint64 // of all series, one series after another; empty: nothing
	each  int      // words of a series
}

func (l *lowRun) reset() { l.words, l.each = l.words[:0], 0 }

// fits reports whether a run can have low.
func (l *lowRun) fits(low []uint64) bool { return low == nil || l.each == 0 || l.each == len(low) }

// add sets the low words of series i, the last one so far. Those of the series in between are zero.
func (l *lowRun) add(i int, low []uint64) {
	if isZero(low) {
		return
	}
	l.each = len(low)
	l.pad(i)
	l.words = append(l.words, low...)
}

// pad appends zeros up to series n.
func (l *lowRun) pad(n int) {
	for len(l.words) < n*l.each {
		l.words = append(l.words, 0)
	}
}

// at returns the low words of series i; nil if all are zero.
func (l *lowRun) at(i int) []uint64 {
	if len(l.words) == 0 {
		return nil
	}
	if low := l.words[i*l.each:][:l.each:l.each]; !isZero(low) {
		return low
	}
	return nil
}

func isZero(words []uint64) bool {
	return !slices.ContainsFunc(words, func(v uint64) bool { return v != 0 })
}

// low writes the low record of a run of n series, unless nothing is lacking.
func (w *chunkWriter) low(n int) {
	l := &w.lows
	if len(l.words) == 0 {
		return
	}
	l.pad(n)
	for i, v := range l.words {
		l.words[i] = bits.ReverseBytes64(v)
	}
	w.b = append(w.b, recordLow)
	w.b = binary.AppendUvarint(w.b, uint64(l.each))
	for i := range l.each {
		w.column(l.words, i, l.each)
	}
	l.reset()
}

// startsLow reports whether b starts with a low record.
func startsLow(b []byte) bool { return len(b) > 0 && b[0] == recordLow }

// takeLow reads the low record of n series of f, if there is one.
func (r *chunkReader) takeLow(f *family, n int) bool {
	r.lows.reset()
	if !startsLow(r.b) {
		return true
	}
	columns, b, ok := lowColumns(r.b, f, n)
	if !ok {
		return false
	}
	r.b, r.lows.each = b, len(columns)
	for i := range n {
		for j := range columns {
			r.lows.words = append(r.lows.words, bits.ReverseBytes64(columns[j].at(i)))
		}
	}
	return true
}

// lowColumns splits the columns of a low record of n series of f off b. A family of a later version
// may have any number of them, within reason.
func lowColumns(b []byte, f *family, n int) (columns []column, rest []byte, ok bool) {
	many, size := binary.Uvarint(b[1:])
	if size <= 0 || many == 0 || many > backend.MaxStripes || f.def != nil && many != uint64(len(f.floats)) {
		return nil, b, false
	}
	b = b[1+size:]
	columns = make([]column, many)
	for i := range columns {
		c := &columns[i]
		if *c, b, ok = takeColumn(b, n); !ok {
			return nil, b, false
		}
		for j := range n {
			if v := bits.ReverseBytes64(c.at(j)); v&infinity == infinity { // or NaN
				return nil, b, false
			}
		}
	}
	return columns, b, true
}

const infinity = 0x7ff << 52 // bits of a float
