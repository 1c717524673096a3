package syncer

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// The format of the words of a chunk: the version of the directory that its writer knew, then
// records in ascending order of series numbers. Each record begins with a varint: the distance from
// the previous series (or from the start of the chunk) times 4, plus the kind of record; then the
// number of the family:
//
//	run      adjacent series of a family: how many, then columns: first words, …
//	varying  a series of a family with blocks: how many words, words
//	low      right after a run or a varying record, at distance 0 and without a family: how
//	         many columns, columns: what each float word of its series lacks, see exact.go
//
// A column is one byte with the width of its values, from 0 to 8 bytes, and then the values,
// little-endian. Words that hold float64 bits are stored with their bytes reversed, since most
// floats end in zeros. Starts are in ms; a column of starts is preceded by the earliest one, and
// holds differences to it plus one, or 0 if a start is not known.
const (
	recordRun = iota
	recordVarying
	recordLow  = 3
	recordBits = 2
)

// startUnit is the resolution of stored starts. They are rounded down, so that nothing seems older
// than its series.
const (
	startUnit = uint64(time.Millisecond)
	maxStart  = math.MaxUint64 / startUnit
)

func chunkOf(id uint32) uint32 { return id >> chunkBits }

// chunkWriter encodes the entries of one chunk in ascending order of their ids.
type chunkWriter struct {
	b    []byte
	next uint32
	n    int

	// The run being collected.
	fam   *family
	first uint32
	many  int      // its series
	words []uint64 // of all its series, one series after another
	lows  lowRun
}

// begin starts a chunk that is encoded with a version of the directory.
func (w *chunkWriter) begin(b []byte, chunk uint32, version uint64) {
	w.b, w.next, w.n = binary.AppendUvarint(b, version), chunk<<chunkBits, 0
	w.fam, w.many, w.words = nil, 0, w.words[:0]
	w.lows.reset()
}

// entry appends a series. low is what its float words lack; nil means nothing.
func (w *chunkWriter) entry(id uint32, f *family, words, low []uint64) {
	w.n++
	if !f.blocks {
		if w.fam != f || id != w.first+uint32(w.many) || id%uint32(f.adjacent) == 0 || !w.lows.fits(low) {
			w.flush()
			w.fam, w.first = f, id
		}
		w.lows.add(w.many, low)
		w.many++
		w.words = append(w.words, words...)
		return
	}
	w.flush()
	w.record(id, recordVarying, f)
	w.b = binary.AppendUvarint(w.b, uint64(len(words)))
	for i, v := range words {
		w.b = binary.AppendUvarint(w.b, f.toStored(i, v))
	}
	w.lows.add(0, low)
	w.low(1)
}

func (w *chunkWriter) record(id uint32, what uint64, f *family) {
	w.b = binary.AppendUvarint(w.b, uint64(id-w.next)<<recordBits|what)
	w.b = binary.AppendUvarint(w.b, uint64(f.id))
	w.next = id + 1
}

// toStored returns a word in its stored form.
func (f *family) toStored(i int, v uint64) uint64 {
	switch {
	case i == f.start:
		return v / startUnit
	case v != 0 && f.isFloat(i):
		return bits.ReverseBytes64(v)
	}
	return v
}

// flush writes the collected run.
func (w *chunkWriter) flush() {
	if w.fam == nil {
		return
	}
	f, n := w.fam, w.many
	w.record(w.first, recordRun, f)
	w.next = w.first + uint32(n)
	w.b = binary.AppendUvarint(w.b, uint64(n))
	for i := range f.stored {
		least := uint64(math.MaxUint64)
		if i == f.start || f.isFloat(i) {
			for at := i; at < len(w.words); at += f.stored {
				v := f.toStored(i, w.words[at])
				if w.words[at] = v; v != 0 {
					least = min(least, v)
				}
			}
		}
		if i == f.start {
			if least == math.MaxUint64 {
				least = 0
			}
			w.b = binary.AppendUvarint(w.b, least)
			for at := i; at < len(w.words); at += f.stored {
				if w.words[at] != 0 {
					w.words[at] -= least - 1
				}
			}
		}
		w.column(w.words, i, f.stored)
	}
	w.low(n)
	w.fam, w.many, w.words = nil, 0, w.words[:0]
}

// column writes every step-th value, starting at first.
func (w *chunkWriter) column(values []uint64, first, step int) {
	all := uint64(0)
	for at := first; at < len(values); at += step {
		all |= values[at]
	}
	width := (bits.Len64(all) + 7) / 8
	w.b = append(w.b, byte(width))
	if width == 0 {
		return
	}
	begin, n := len(w.b), len(values)/step
	w.b = slices.Grow(w.b, n*width+8)[:begin+n*width+8]
	dst := w.b[begin:]
	for at := first; at < len(values); at += step {
		binary.LittleEndian.PutUint64(dst, values[at]) // the next one overwrites the excess
		dst = dst[width:]
	}
	w.b = w.b[:begin+n*width]
}

// end returns the encoded chunk.
func (w *chunkWriter) end() []byte {
	w.flush()
	return w.b
}

// column is a column that is being read.
type column struct {
	b     []byte // all values and the bytes after them
	n     int
	width int
	mask  uint64
}

// takeColumn splits a column of n values off b. ok is false if b is too short or invalid.
func takeColumn(b []byte, n int) (c column, rest []byte, ok bool) {
	if len(b) == 0 || b[0] > 8 || len(b)-1 < n*int(b[0]) {
		return c, b, false
	}
	width := int(b[0])
	b = b[1:]
	return column{b, n, width, 1<<(8*width) - 1}, b[n*width:], true
}

// at returns the value i.
func (c *column) at(i int) uint64 {
	b := c.b[i*c.width:]
	if len(b) >= 8 {
		return binary.LittleEndian.Uint64(b) & c.mask
	}
	v := uint64(0)
	for j, x := range b[:c.width] {
		v |= uint64(x) << (8 * j)
	}
	return v
}

// takeStarts splits off a column of starts. A value v other than 0 means (base + v) ms.
func takeStarts(b []byte, n int) (c column, base uint64, rest []byte, ok bool) {
	least, size := binary.Uvarint(b)
	if size <= 0 || least > maxStart {
		return c, 0, b, false
	}
	if c, rest, ok = takeColumn(b[size:], n); !ok || c.width > 6 || least == 0 && c.width > 0 {
		return c, 0, b, false
	}
	return c, least - 1, rest, true
}

// startAt returns start i in ns; 0 if it is not known.
func (c *column) startAt(i int, base uint64) uint64 {
	v := c.at(i)
	if v == 0 {
		return 0
	}
	return min(v+base, maxStart) * startUnit
}

// chunkReader decodes the output of chunkWriter.
type chunkReader struct {
	b       []byte
	version uint64 // of the directory
	next    uint32
	end     uint32
	bad     bool

	id    uint32
	row   *row
	words []uint64 // valid until the next entry
	low   []uint64 // likewise; nil: nothing

	left int // series left in the current run
	size int // its series
	lows lowRun
	fam  *family
	buf  []uint64
}

func newChunkReader(b []byte, chunk uint32, scratch []uint64) chunkReader {
	r := chunkReader{b: b, next: chunk << chunkBits, end: (chunk + 1) << chunkBits, buf: scratch}
	if len(b) > 0 {
		version, ok := r.num()
		r.version, r.bad = version, !ok
	}
	return r
}

var errWords = fmt.Errorf("%w: words", errFormat)

func (r *chunkReader) num() (uint64, bool) {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		return 0, false
	}
	r.b = r.b[n:]
	return v, true
}

// read reads the next entry that counts: words of a series that was deleted since they were written
// do not. It returns false at the end.
func (r *chunkReader) read(d *directory) (bool, error) {
	for {
		if ok, err := r.readAny(d); !ok || r.counts(d) {
			return ok, err
		}
	}
}

// counts reports whether the current entry is about the series that has its number now, and sets
// row.
func (r *chunkReader) counts(d *directory) bool {
	r.row = d.row(r.id)
	return r.row != nil && r.row.since <= r.version && r.row.fam == r.fam
}

// readAny reads the next entry.
func (r *chunkReader) readAny(d *directory) (bool, error) {
	if r.left > 0 {
		r.nextInRun()
		return true, nil
	}
	if r.bad {
		return false, errWords
	}
	if len(r.b) == 0 {
		return false, nil
	}
	kind, at, f, ok := r.record(d)
	if !ok {
		return false, errWords
	}
	r.next, r.fam = at, f
	switch {
	case kind == recordRun && !f.blocks:
		n, ok := r.many()
		if !ok || !r.run(n) {
			return false, errWords
		}
		r.nextInRun()
		return true, nil
	case kind == recordVarying && f.blocks:
	default:
		return false, errWords
	}
	r.id = r.next
	r.next++
	n, ok := r.num()
	if !ok || n > uint64(len(r.b)) || !f.fits(n) {
		return false, errWords
	}
	r.words, r.low = r.buf[:0], nil
	for i := range int(n) {
		v, ok := r.num()
		switch {
		case !ok:
			return false, errWords
		case i == f.start:
			if v > maxStart {
				return false, errWords
			}
			v *= startUnit
		case v != 0 && f.isFloat(i):
			v = bits.ReverseBytes64(v)
		}
		r.words = append(r.words, v)
	}
	r.buf = r.words
	if !r.takeLow(f, 1) {
		return false, errWords
	}
	r.low = r.lows.at(0)
	return true, nil
}

// record reads the head of a record: its kind, and the number and family of its first series.
func (r *chunkReader) record(d *directory) (kind uint64, at uint32, f *family, ok bool) {
	head, ok := r.num()
	if !ok || head>>recordBits >= uint64(r.end-r.next) {
		return 0, 0, nil, false
	}
	id, ok := r.num()
	if !ok || id >= uint64(len(d.families)) {
		return 0, 0, nil, false
	}
	return head & (1<<recordBits - 1), r.next + uint32(head>>recordBits), d.families[id], true
}

// many reads how many series a run has.
func (r *chunkReader) many() (n int, ok bool) {
	v, ok := r.num()
	most := uint64(r.fam.adjacent) - uint64(r.next)%uint64(r.fam.adjacent)
	return int(v), ok && v > 0 && v <= most // which is not more than the chunk has left
}

// run decodes a run of n series.
func (r *chunkReader) run(n int) bool {
	f := r.fam
	r.buf = slices.Grow(r.buf[:0], n*f.stored)[:n*f.stored]
	for i := range f.stored {
		var c column
		var base uint64
		var ok bool
		start, float := i == f.start, f.isFloat(i)
		if start {
			c, base, r.b, ok = takeStarts(r.b, n)
		} else {
			c, r.b, ok = takeColumn(r.b, n)
		}
		if !ok {
			return false
		}
		for j := range n {
			v := uint64(0)
			switch {
			case start:
				v = c.startAt(j, base)
			case float:
				v = bits.ReverseBytes64(c.at(j))
			default:
				v = c.at(j)
			}
			r.buf[j*f.stored+i] = v
		}
	}
	r.left, r.size = n, n
	return r.takeLow(f, n)
}

// nextInRun moves to the next series of the run.
func (r *chunkReader) nextInRun() {
	r.id = r.next
	size := r.fam.stored
	i := r.size - r.left
	r.words, r.low = r.buf[i*size:][:size:size], r.lows.at(i)
	r.next++
	r.left--
}
