package syncer

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// The directory numbers series. A number is used again after its series was deleted, so a number
// alone does not say which series it means. The directory has a version, which grows with each
// change, and records for each number in which version it was assigned. Words are stored with the
// version that their writer knew: what they say of a number that was assigned later is about a
// series that was deleted, and does not count.
//
// The head "dir" is the version with a random token: if the store goes back to an older state, a
// version may come twice, but not with the same token. The part that lists the others has the
// tokens of the last versions, so that each process can tell whether the directory in the store
// continues the one that it knows. That list is in the group of the families. A process that was
// away for more versions than that cannot tell by the tokens. The breaks tell it: a number that is
// raised by the first process that sees that the store has gone back.
//
//	head           version, token (8 bytes), epoch (8 bytes)
//	list           the head, families and chain over them (8 bytes), breaks,
//	               how many tokens, tokens (4 bytes each, the newest last),
//	               parts as in chunkSeqs, with versions instead of seqs
//	part           version; for each number up to the last one in use: 0 if it is free, or
//	               (family + 1) * 8 + flags; the version that assigned it and its token (4
//	               bytes; flag 1, otherwise as for the number before it); birth (8 bytes; flag
//	               2, otherwise that of this version); birth of the former life (8 bytes; flag
//	               4, otherwise not known); label text

// birth identifies a life of a series, from its first number to its deletion. It stays when the
// store has lost the directory and the series gets another number, so that processes which restore
// what they know can tell a series that was deleted from one that has come back. It is the version
// that assigned the number, and the token of that version; 0 is unknown.
type birth uint64

func birthOf(version, token uint64) birth { return birth(version<<32 | token&math.MaxUint32) }

// Lists of numbers. Gauges of mode Shared have numbers of their own, so that a process that sets
// one need not read the other words of all instances.
const (
	series = iota
	gauges
	lists
)

// slot is a number in the directory.
type slot struct {
	row   *row // nil: free
	since uint64
	born  birth
	prev  birth // of the former life, which was deleted
}

type slots [chunkSize]slot

// directory is what this process knows of the directory in the store.
type directory struct {
	version  uint64
	token    uint64
	epoch    uint64
	raw      []byte   // the head; of length 0: not everything is known
	tokens   []uint32 // of the last versions, the newest last
	breaks   uint64   // so often the store is known to have gone back
	chunks   chunkSeqs
	families []*family
	tally    tally // of families
	helps    map[string]bool
	rows     [lists]map[uint32]*numbered // by chunk; nil: all its numbers are free
}

// numbered are the series that have the numbers of a chunk; nil: the number is free.
type numbered struct {
	rows [chunkSize]*row
	used int // how many there are
	size int // of these, see row.size
}

const maxTokens = 256

// chunkBytes is the size from which on a chunk gets no further series: label texts can be long, and
// a store need not be able to take, nor its other users to wait for, a whole chunk of the longest.
const chunkBytes = 64 << 10

// size returns approximately how many bytes a series adds to parts: its label text to one, and its
// words, most of which take a byte or two, to others.
func (r *row) size() int { return slotSize + len(r.labels) + 2*r.fam.stored }

// listOf returns the list that has a chunk.
func listOf(chunk uint32) int {
	if chunk >= gaugeChunks {
		return gauges
	}
	return series
}

// firstChunk returns the first chunk of a list.
func firstChunk(list int) uint32 { return uint32(list) * gaugeChunks }

// row returns the series with a number, or nil.
func (d *directory) row(id uint32) *row {
	n := chunkOf(id)
	if c := d.rows[listOf(n)][n]; c != nil {
		return c.rows[id%chunkSize]
	}
	return nil
}

// chunk returns the rows of a chunk, in which nil is a free number.
func (d *directory) chunk(n uint32) []*row {
	if c := d.rows[listOf(n)][n]; c != nil {
		return c.rows[:]
	}
	return nil
}

// slots returns a copy of a chunk.
func (d *directory) slots(n uint32) *slots {
	p := new(slots)
	for i, r := range d.chunk(n) {
		if r != nil {
			p[i] = slot{r, r.since, r.born, r.prev}
		}
	}
	return p
}

// assign gives a row a number.
func (d *directory) assign(r *row, id uint32, s slot) {
	n := chunkOf(id)
	rows := &d.rows[listOf(n)]
	if *rows == nil {
		*rows = make(map[uint32]*numbered)
	}
	c := (*rows)[n]
	if c == nil {
		c = new(numbered)
		(*rows)[n] = c
	}
	if old := c.rows[id%chunkSize]; old == nil {
		c.used++
	} else {
		c.size -= old.size()
	}
	c.size += r.size()
	c.rows[id%chunkSize] = r
	r.id, r.since, r.born, r.prev = id, s.since, s.born, s.prev
}

// release frees the number of a row.
func (d *directory) release(r *row) {
	if d.row(r.id) == r {
		n := chunkOf(r.id)
		rows := d.rows[listOf(n)]
		c := rows[n]
		c.rows[r.id%chunkSize] = nil
		c.size -= r.size()
		if c.used--; c.used == 0 {
			delete(rows, n)
		}
	}
	r.id, r.since = noID, 0
}

// listed returns how many numbers are in use.
func (d *directory) listed() (n int) {
	for _, rows := range d.rows {
		for _, c := range rows {
			n += c.used
		}
	}
	return n
}

func (d *directory) encodeHead() []byte {
	b := binary.LittleEndian.AppendUint64(binary.AppendUvarint(nil, d.version), d.token)
	return binary.LittleEndian.AppendUint64(b, d.epoch)
}

func (d *directory) decodeHead(b []byte) error {
	r := reader{b: b}
	d.version, d.token, d.epoch = r.num(), r.fixed(), r.fixed()
	return r.end("head dir")
}

// next returns a directory with the next version and without rows: what a commit writes of it.
func (d *directory) next(token uint64) *directory {
	n := &directory{version: d.version + 1, token: token, epoch: d.epoch, breaks: d.breaks, tally: d.tally, chunks: maps.Clone(d.chunks)}
	if n.chunks == nil {
		n.chunks = make(chunkSeqs)
	}
	n.tokens = append(n.tokens, d.tokens[max(0, len(d.tokens)-maxTokens+1):]...)
	n.tokens = append(n.tokens, uint32(token))
	return n
}

func (d *directory) encodeList() []byte {
	b := d.encodeHead()
	b = binary.AppendUvarint(b, d.tally.n)
	b = binary.LittleEndian.AppendUint64(b, d.tally.chain)
	b = binary.AppendUvarint(b, d.breaks)
	b = binary.AppendUvarint(b, uint64(len(d.tokens)))
	for _, t := range d.tokens {
		b = binary.LittleEndian.AppendUint32(b, t)
	}
	return d.chunks.append(b)
}

func (d *directory) decodeList(b []byte) error {
	r := reader{b: b}
	d.version, d.token, d.epoch = r.num(), r.fixed(), r.fixed()
	d.tally = tally{r.num(), r.fixed()}
	d.breaks = r.num()
	n := r.num()
	if n > uint64(len(r.b)/4) {
		r.bad, n = true, 0
	}
	for range n {
		d.tokens = append(d.tokens, binary.LittleEndian.Uint32(r.b))
		r.b = r.b[4:]
	}
	d.chunks = readChunkSeqs(&r)
	return r.end("list of the directory")
}

// continues reports whether d, which has only what its list says, comes from old by further
// changes, as far as that can be told: if there were too many, it is assumed unless somebody has
// seen a break since.
func (d *directory) continues(old *directory) bool {
	back := d.version - old.version
	switch {
	case old.version == 0: // nothing was known
		return true
	case d.version < old.version:
		return false
	case back < uint64(len(d.tokens)):
		return d.tokens[uint64(len(d.tokens))-1-back] == uint32(old.token)
	}
	return d.breaks == old.breaks
}

// encode returns a part of the directory.
func (p *slots) encode(version uint64) []byte {
	b := binary.AppendUvarint(nil, version)
	last := chunkSize
	for last > 0 && p[last-1].row == nil {
		last--
	}
	since, usual := uint64(0), birth(0)
	for _, s := range p[:last] {
		if s.row == nil {
			b = append(b, 0)
			continue
		}
		head, at := uint64(s.row.fam.id+1)<<3, len(b)
		if s.since != since {
			head |= 1
			if since, usual = s.since, birthOf(s.since, 0); s.born>>32 == usual>>32 {
				usual = s.born
			}
			b = binary.AppendUvarint(b, since)
			b = binary.LittleEndian.AppendUint32(b, uint32(usual))
		}
		if s.born != usual {
			head |= 2
			b = binary.LittleEndian.AppendUint64(b, uint64(s.born))
		}
		if s.prev != 0 {
			head |= 4
			b = binary.LittleEndian.AppendUint64(b, uint64(s.prev))
		}
		b = slices.Insert(b, at, binary.AppendUvarint(nil, head)...)
		b = appendBytes(b, s.row.labels)
	}
	return b
}

// storedSlot is a number as it is stored.
type storedSlot struct {
	fam    *family // nil: free
	labels []byte
	slot   // without row
}

// decodeSlots decodes a part of the directory of list.
func (d *directory) decodeSlots(b []byte, list int) (version uint64, all []storedSlot, err error) {
	r := reader{b: b}
	version = r.num()
	since, usual := uint64(0), birth(0)
	for len(r.b) > 0 && len(all) < chunkSize {
		head := r.num()
		if head == 0 && !r.bad {
			all = append(all, storedSlot{})
			continue
		}
		id := head>>3 - 1
		if r.bad || id >= uint64(len(d.families)) || d.families[id].list() != list {
			return 0, nil, fmt.Errorf("%w: directory", errFormat)
		}
		s := storedSlot{fam: d.families[id]}
		if head&1 != 0 {
			since = r.num()
			usual = birthOf(since, uint64(r.fixed32()))
		}
		s.since, s.born = since, usual
		if head&2 != 0 {
			s.born = birth(r.fixed())
		}
		if head&4 != 0 {
			s.prev = birth(r.fixed())
		}
		s.labels = r.bytes()
		all = append(all, s)
	}
	return version, all, r.end("directory")
}
