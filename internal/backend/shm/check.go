//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
)

// content is a copy of a file, taken while others may write to it, and the results of checking it.
// The copy is in the heap, so that truncating the file does no harm. It is read from the beginning
// to the end, so that every record that the copied index leads to is complete.
type content struct {
	*header
	mem      memory
	end      uint64                     // end of the space that records may be in
	records  []*record                  // those that can be read, in ascending order of offset
	families map[uint32]*backend.Family // those that this version can read, by offset/64
	// it has something that only a later version understands
	newer    bool
	exist    map[string]bool // existing series, see deleted
	free     uint64          // bytes of free records
	problems []string
	hidden   int // number of problems beyond maxProblems
}

const maxProblems = 100

func (c *content) problem(format string, args ...any) {
	if len(c.problems) == maxProblems {
		c.hidden++
		return
	}
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// load reads and checks a file. The error is about reading it or about its header.
func load(f *os.File) (*content, error) {
	if _, err := readHeader(f); err != nil {
		// before a large file of another kind fills the memory
		return nil, err
	}
	var mem memory
	for {
		size, err := sizeOf(f)
		if err != nil {
			return nil, fmt.Errorf("shm: %w", err)
		}
		if size > math.MaxInt {
			return nil, fmt.Errorf("shm: %s has %d bytes, too many for this machine's address space", f.Name(), size)
		}
		if int(size) <= len(mem) {
			break
		}
		// The file may grow meanwhile, and the index that was read may lead to the new
		// part.
		larger := newMemory(int(size))
		copy(larger, mem)
		n, err := io.ReadFull(io.NewSectionReader(f, int64(len(mem)), int64(len(larger)-len(mem))), larger[len(mem):])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, fmt.Errorf("shm: reading %s: %w", f.Name(), err)
		}
		if mem = larger[:len(mem)+n]; len(mem) < int(size) {
			break
		}
	}
	// Read these again: writers move the tail before they link a record, and the size before
	// the tail.
	for _, off := range []int{offTail, offSize, offTickets} {
		if len(mem) >= offIndex {
			if _, err := f.ReadAt(mem[off:off+8], int64(off)); err != nil {
				return nil, fmt.Errorf("shm: reading %s: %w", f.Name(), err)
			}
		}
	}
	c, err := examine(mem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return c, nil
}

// examine checks everything in a file.
func examine(mem memory) (*content, error) {
	h, err := decodeHeader(mem[:min(offIndex, len(mem))], uint64(len(mem)))
	if err != nil {
		return nil, err
	}
	c := &content{header: h, mem: mem, end: uint64(len(mem)), families: make(map[uint32]*backend.Family)}
	tail, size := mem.u64(offTail).Load(), mem.u64(offSize).Load()
	if tail%align != 0 || tail < h.recordsAt || tail > h.limit {
		c.problem("the end of records is %d, which must be a multiple of %d from %d to %d", tail, align, h.recordsAt, h.limit)
	} else if c.end = min(c.end, tail); tail > size && size >= h.recordsAt {
		// Space is allocated on the disk before it is given to records.
		c.problem("records end at %d, but only %d bytes are said to be allocated", tail, size)
	}
	if top := mem.u64(offTop).Load(); top > tail || top%align != 0 {
		c.problem("a record is said to end at %d, beyond the end of records at %d", top, tail)
	}
	if size > h.limit {
		c.problem("%d bytes are said to be allocated, more than the limit of %d", size, h.limit)
	}
	c.walkIndex()
	c.walkFree()
	slices.SortFunc(c.records, func(a, b *record) int { return cmp.Compare(a.off, b.off) })
	for i, r := range c.records {
		if i > 0 && c.records[i-1].off+c.records[i-1].size > r.off {
			c.problem("the records at %d and %d overlap", c.records[i-1].off, r.off)
		}
		if r.typ == typeFamily {
			c.checkFamily(r)
		}
	}
	series := make(map[uint32]*record)
	for _, r := range c.records {
		if r.typ == typeSeries {
			series[uint32(r.off/align)] = r
		}
	}
	for _, r := range c.records {
		switch r.typ {
		case typeFamily, typeFree:
		case typeSeries, typeHelp, typeDeclared:
			c.checkMember(r)
		case typePart:
			c.checkPart(r, series[r.family])
		default:
			c.newer = true
		}
	}
	c.newer = c.newer || h.minor > minor
	c.checkInstances()
	if c.hidden > 0 {
		c.problems[maxProblems-1] = fmt.Sprintf("%s (and %d more problems)", c.problems[maxProblems-1], c.hidden)
	}
	return c, nil
}

// walkIndex follows every chain. A chain ends at a record that was reached before, so that the walk
// takes no more steps than there can be records.
func (c *content) walkIndex() {
	type key struct {
		typ    uint16
		family uint32
		text   string
	}
	reached := make(map[uint32]bool)
	keys := make(map[key]uint64)
	for i := range c.buckets {
		for at := c.mem.u32(offIndex + 4*uint64(i)).Load(); at != 0; {
			off := uint64(at) * align
			if off < c.recordsAt || off > c.end || c.end-off < recHeader {
				c.problem("bucket %d leads to offset %d, where no record can be", i, off)
				break
			}
			if reached[at] {
				c.problem("bucket %d leads to the record at %d, which was reached before", i, off)
				break
			}
			reached[at] = true
			r, err := c.mem.record(off, c.end)
			if err != nil {
				c.problem("%s", strings.TrimPrefix(err.Error(), ErrFormat.Error()+": "))
				break // its next field cannot be trusted either
			}
			at = c.mem.u32(off + recNext).Load()
			k := key{r.typ, r.family, r.text}
			switch other, ok := keys[k]; {
			case r.hash != c.hashOf(r.typ, r.family, r.text):
				c.problem("the record at %d has the wrong hash", off)
			case r.hash&uint64(c.buckets-1) != uint64(i):
				c.problem("the record at %d is in bucket %d but belongs in %d", off, i, r.hash&uint64(c.buckets-1))
			case c.mem.u32(off+recRetired).Load()&1 != 0:
				// another one may have its key
			case ok:
				c.problem("the records at %d and %d have the same key", other, off)
			default:
				keys[k] = off
			}
			c.records = append(c.records, r)
			for j := r.textAt + uint64(r.textLen) + uint64(r.ext); j < off+r.size; j++ {
				if c.mem[j] != 0 {
					c.problem("the record at %d has nonzero bytes after its texts", off)
					break
				}
			}
		}
	}
}

// walkFree follows the lists of free records. What is on a list must say that it is free, and space
// that is free cannot be on two lists.
func (c *content) walkFree() {
	reached := make(map[uint32]bool)
	for class := range uint64(numFree) {
		for at := c.mem.u32(offFree + 4*class).Load(); at != 0; {
			off := uint64(at) * align
			if off < c.recordsAt || off > c.end || c.end-off < recHeader || reached[at] {
				c.problem("the list of free records of %d bytes leads to offset %d, where there is none", class*align, off)
				break
			}
			reached[at] = true
			r, err := c.mem.record(off, c.end)
			if err != nil || r.typ != typeFree || r.size != class*align || r.hash != uint64(at) {
				c.problem("the list of free records of %d bytes leads to offset %d, where there is none", class*align, off)
				break
			}
			at = r.family
			c.free += r.size
			c.records = append(c.records, r)
		}
	}
}

func (c *content) checkFamily(r *record) {
	if r.family != 0 || r.words != 0 {
		c.problem("the family at %d has %d words and family %d", r.off, r.words, r.family)
		return
	}
	f, err := backend.ParseSchema(r.text)
	if err != nil { // the checksum is right, so it is from a later version
		c.newer = true
		return
	}
	f.Help = r.extra
	c.families[uint32(r.off/align)] = f
}

// at returns the record at ref, or nil if there is none.
func (c *content) at(ref uint32) *record {
	i, ok := slices.BinarySearchFunc(c.records, uint64(ref)*align, func(r *record, off uint64) int { return cmp.Compare(r.off, off) })
	if !ok {
		return nil
	}
	return c.records[i]
}

// checkMember checks a record that refers to a family.
func (c *content) checkMember(r *record) {
	if of := c.at(r.family); of == nil || of.typ != typeFamily {
		c.problem("the record at %d belongs to a family at %d, where there is none", r.off, uint64(r.family)*align)
		return
	}
	f := c.families[r.family]
	switch {
	case f == nil: // from a later version
	case r.typ == typeHelp && r.words != 0:
		c.problem("the help text at %d has %d words", r.off, r.words)
	case r.typ == typeDeclared:
		if _, ok := declaredGroup(r, c.instances); !ok {
			c.problem("the record at %d is a declaration with %d words for slot group %q, which is invalid", r.off, r.words, r.text)
			return
		}
		for i := range c.mem.words(r.wordsAt, r.words) {
			c.checkTicket(r, i)
		}
	case r.typ == typeSeries:
		want := f.Words()
		if f.Parts() {
			want = 0
		}
		if int(r.words) != want {
			c.problem("the series at %d has %d words, %s needs %d", r.off, r.words, f.Name, want)
			return
		}
		if _, err := f.LabelValues(r.text); err != nil {
			c.problem("the series at %d: %v", r.off, err)
		}
		c.checkWords(f, r)
	}
}

// checkWords reports values that no update can produce.
func (c *content) checkWords(f *backend.Family, r *record) {
	floats := map[backend.Kind]int{
		backend.Counter: backend.CounterFloat, backend.Histogram: backend.HistogramSum, backend.Summary: backend.SummarySum,
	}
	float, ok := floats[f.Kind]
	if !ok || r.words == 0 || f.Block.Role != 0 {
		return
	}
	counts := backend.CounterInt
	num := 1 // of counts, beginning at word counts
	switch {
	case f.Kind == backend.Summary:
		counts = backend.SummaryCount
	case f.Kind == backend.Histogram:
		counts = backend.HistogramBuckets
		if num = 0; f.Classic() {
			num = len(f.Buckets) + 1
		}
	}
	w := c.mem.words(r.wordsAt, r.words)
	for range max(f.Stripes, 1) {
		for i := range num {
			if n := w[counts+i].Load() &^ backend.SealedInt; n >= maxCount {
				c.problem("the series at %d, %s{%s}, holds a count of %d, which updates cannot reach", r.off, f.Name, r.text, n)
			}
		}
		counts += f.StripeWords()
		bits := w[float].Load()
		v := math.Float64frombits(bits)
		if bits != backend.SealedFloat && (v != v || f.Kind == backend.Counter && v < 0) {
			c.problem("the series at %d, %s{%s}, holds %v", r.off, f.Name, r.text, v)
		}
		float += f.StripeWords()
	}
}

func (c *content) checkPart(r, series *record) {
	slot, err := strconv.Atoi(r.text)
	if series == nil {
		series = c.unlinked(r.family)
	}
	if series == nil || err != nil || slot < 0 || slot >= int(c.instances) || strconv.Itoa(slot) != r.text {
		c.problem("the record at %d is the part of slot %q of a series at %d, which is invalid", r.off, r.text, uint64(r.family)*align)
		return
	}
	if f := c.families[series.family]; f != nil && (!f.Parts() || int(r.words) != f.Words()+1) {
		c.problem("the part at %d of %s{%s} has %d words", r.off, f.Name, series.text, r.words)
	} else if f != nil {
		c.checkTicket(r, f.Words())
		if f.Mode == backend.Latest {
			c.checkTicket(r, backend.GaugeTicket)
		}
	}
}

// unlinked returns the series at ref if it was deleted and is in no chain any more, or nil. A
// process that found it before may have made a part of it since then; see partsUnlinked.
func (c *content) unlinked(ref uint32) *record {
	off := uint64(ref) * align
	if off < c.recordsAt {
		return nil
	}
	r, err := c.mem.record(off, c.end)
	if err != nil || r.typ != typeSeries || c.mem.u32(off+recRetired).Load()&1 == 0 {
		return nil
	}
	return r
}

// checkTicket checks a word that holds a ticket. It may be higher than the number of tickets given
// out: after a power failure the disk may have a newer word than number, and words of dead
// instances do not count.
func (c *content) checkTicket(r *record, word int) {
	if n := c.mem.u64(r.wordsAt + 8*uint64(word)).Load(); n >= maxTickets {
		c.problem("word %d of the record at %d is ticket %d, which is too large", word, r.off, n)
	}
}

func (c *content) checkInstances() {
	tickets := c.mem.u64(offTickets).Load()
	ids := make(map[uint64]int)
	for i := range int(c.instances) {
		id := c.mem.u64(c.instance(i) + insID).Load()
		if id == 0 {
			continue
		}
		if other, ok := ids[id]; ok {
			c.problem("instances %d and %d have the same id %d", other, i, id)
		} else if id > tickets {
			c.problem("instance %d has id %d, but only %d tickets were given out", i, id, tickets)
		}
		ids[id] = i
	}
}
