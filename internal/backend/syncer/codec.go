package syncer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// The encoding of records. All numbers are unsigned varints unless a size is given. Any change here
// changes the stored format and must raise formatVersion.
//
//	head "meta"    version, epoch (8 bytes), flags, index of the shard, number of shards,
//	               server (length, bytes)
//	head "dir"     see slots.go
//	head "del"     8 random bytes, which change with every deletion
//	head "base"    version, generation (8 bytes), highest stamp, highest join, chunks, folds
//	head "g<gen>"  8 random bytes: that generation of the base exists or is being written
//	head "k<n>"    id (8 bytes) of an instance, version of its roster (8 bytes), a number that
//	               changes
//	head "i<id>"   epoch (8 bytes), flags, seq, start in ms, number, alive in ms, highest stamp,
//	               pid, join, version of the directory, restored, host (length, bytes),
//	               variants, chunks
//	head "x<id>"   the same, for a folded instance
//	  variants     how many; for each: number of the family
//	  chunks       how many; for each: difference from the previous number, seq
//	  folds        how many; for each: id (8 bytes), seq
//	part f, n      family n: words, list and flags, index of the start plus one,
//	               schema (length, bytes), help (length, bytes); the last possible n: the list
//	               of the directory, see slots.go; a few before it: see roster.go
//	part d, n      numbers of 256 series, see slots.go
//	part b<gen>, n words of the base for the series of directory part n
//
// part i<id>, n  words of an instance for the series of directory part n; the last possible n: its
//
//	             series without numbers, see inline.go
//	words        seq, version of the directory, then the records described in chunk.go
const formatVersion = 4

const (
	chunkBits = 8
	chunkSize = 1 << chunkBits // series in a part of the directory

	headMeta      = "meta"
	headDirectory = "dir"
	headDeletions = "del"
	headBase      = "base"
	livePfx       = "i"
	deadPfx       = "x"
	genPfx        = "g"
	keeperPfx     = "k"

	groupFamilies  = "f"
	groupDirectory = "d"
	groupBase      = "b"

	// Shared gauges have separate chunks, numbered from here on: to set one, a process must
	// know what the others have added.
	gaugeChunks = 1 << 20

	listPart   = ^uint32(0)     // of the directory: lists its other parts
	inlinePart = ^uint32(0) - 1 // of an instance: series without numbers

	maxFolds = 512 // listed in the head of the base

	// Words of a run. Zeros take next to no bytes, so this bounds what a record makes of few.
	maxRun = 1 << 14
)

var errFormat = errors.New("syncer: damaged record")

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) num() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fixed() uint64 {
	if len(r.b) < 8 {
		r.bad, r.b = true, nil
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) fixed32() uint32 {
	if len(r.b) < 4 {
		r.bad, r.b = true, nil
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.num()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) end(what string) error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: %s", errFormat, what)
	}
	return nil
}

// tally is the number of entries in a list of the directory, and a hash chain over them:
// directories with equal tallies are equal.
type tally struct {
	n     uint64
	chain uint64
}

const chainStart = 0xcbf29ce484222325

func (t *tally) add(entry []byte) {
	h := t.chain
	if t.n == 0 {
		h = chainStart
	}
	for _, c := range entry {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	t.n++
	t.chain = h ^ h>>32
}

// meta is what every commit is conditioned on. It changes only when the store has lost something,
// or another server answers.
type meta struct {
	epoch      uint64
	recovering bool   // the previous epoch was lost, and not everything is published again
	recovered  bool   // a recovery has finished
	settling   bool   // another server has taken over since the epoch began
	shard      uint64 // index of this shard
	shards     uint64
	server     string // identity of the server, see store.HeadServer
}

func (m *meta) encode() []byte {
	b := []byte{formatVersion}
	b = binary.LittleEndian.AppendUint64(b, m.epoch)
	flags := uint64(0)
	for i, f := range []bool{m.recovering, m.recovered, m.settling} {
		if f {
			flags |= 1 << i
		}
	}
	for _, v := range []uint64{flags, m.shard, m.shards} {
		b = binary.AppendUvarint(b, v)
	}
	return appendBytes(b, m.server)
}

func (m *meta) decode(b []byte) error {
	if len(b) == 0 || b[0] != formatVersion {
		have := "none"
		if len(b) > 0 {
			have = fmt.Sprint(b[0])
		}
		return fmt.Errorf("%w: head meta: format version %s, but this process has %d: processes with different versions need separate namespaces", errFormat, have, formatVersion)
	}
	r := reader{b: b[1:]}
	m.epoch = r.fixed()
	flags := r.num()
	m.recovering, m.recovered, m.settling = flags&1 != 0, flags&2 != 0, flags&4 != 0
	m.shard, m.shards = r.num(), r.num()
	m.server = string(r.bytes())
	return r.end("head meta")
}

// chunkSeqs maps the chunks of a contributor to the seq with which each was written.
type chunkSeqs map[uint32]uint64

func (c chunkSeqs) append(b []byte) []byte {
	numbers := make([]uint32, 0, len(c))
	for n := range c {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	b = binary.AppendUvarint(b, uint64(len(numbers)))
	last := uint32(0)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(n-last))
		b = binary.AppendUvarint(b, c[n])
		last = n
	}
	return b
}

func readChunkSeqs(r *reader) chunkSeqs {
	n := r.num()
	if n > uint64(len(r.b))/2 {
		r.bad = true
		return nil
	}
	c := make(chunkSeqs, n)
	last := uint64(0)
	for i := range n {
		more, seq := r.num(), r.num()
		if more == 0 && i > 0 || more > uint64(listPart) {
			r.bad = true
		}
		if last += more; last >= uint64(firstChunk(lists)) && last != uint64(inlinePart) {
			r.bad = true // there is no such chunk
		}
		if r.bad {
			return nil
		}
		c[uint32(last)] = seq
	}
	return c
}

// instanceHead is the head of an instance.
type instanceHead struct {
	epoch uint64 // in which it was written: its chunks are numbered by that directory
	left  bool   // the instance has published everything and ended
	// It was folded with these words, and its process has gone on as another instance.
	continued bool
	seq       uint64
	startMS   uint64
	number    uint64
	aliveMS   uint64
	stamp     uint64
	pid       uint64
	join      uint64 // position in the order of joining
	dir       uint64 // version of the directory that its chunks are encoded with
	restored  uint64 // random if another instance has restored this one; otherwise 0
	host      string
	variants  []uint32
	chunks    chunkSeqs
}

func (h *instanceHead) numbers() []*uint64 {
	return []*uint64{&h.seq, &h.startMS, &h.number, &h.aliveMS, &h.stamp, &h.pid, &h.join, &h.dir, &h.restored}
}

func (h *instanceHead) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, h.epoch)
	flags := byte(0)
	if h.left {
		flags |= 1
	}
	if h.continued {
		flags |= 2
	}
	b = append(b, flags)
	for _, v := range h.numbers() {
		b = binary.AppendUvarint(b, *v)
	}
	b = binary.AppendUvarint(appendBytes(b, h.host), uint64(len(h.variants)))
	for _, id := range h.variants {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return h.chunks.append(b)
}

func (h *instanceHead) decode(b []byte) error {
	r := reader{b: b}
	h.epoch = r.fixed()
	flags := r.num()
	h.left, h.continued = flags&1 != 0, flags&2 != 0
	for _, p := range h.numbers() {
		*p = r.num()
	}
	h.host = string(r.bytes())
	n := r.num()
	if n > uint64(len(r.b)) {
		r.bad, n = true, 0
	}
	h.variants = nil
	for range n {
		h.variants = append(h.variants, uint32(r.num()))
	}
	h.chunks = readChunkSeqs(&r)
	return r.end("head of an instance")
}

// fold records that an instance's words as of a seq are in the base.
type fold struct {
	id  uint64
	seq uint64
}

// baseHead is the head of the base.
type baseHead struct {
	version uint64
	gen     uint64 // generation: names the group of its parts; 0: the group without a number
	stamp   uint64
	join    uint64 // highest join of a folded instance
	chunks  chunkSeqs
	folds   []fold // newest last
}

func (h *baseHead) encode() []byte {
	b := binary.AppendUvarint(nil, h.version)
	b = binary.LittleEndian.AppendUint64(b, h.gen)
	b = binary.AppendUvarint(b, h.stamp)
	b = binary.AppendUvarint(b, h.join)
	b = h.chunks.append(b)
	b = binary.AppendUvarint(b, uint64(len(h.folds)))
	for _, f := range h.folds {
		b = binary.LittleEndian.AppendUint64(b, f.id)
		b = binary.AppendUvarint(b, f.seq)
	}
	return b
}

func (h *baseHead) decode(b []byte) error {
	*h = baseHead{chunks: chunkSeqs{}}
	if b == nil {
		return nil
	}
	r := reader{b: b}
	h.version = r.num()
	h.gen = r.fixed()
	h.stamp = r.num()
	h.join = r.num()
	h.chunks = readChunkSeqs(&r)
	n := r.num()
	if n > maxFolds {
		r.bad, n = true, 0
	}
	for range n {
		h.folds = append(h.folds, fold{r.fixed(), r.num()})
	}
	return r.end("head base")
}

// find returns the fold of an instance.
func (h *baseHead) find(id uint64) (fold, bool) {
	for _, f := range h.folds {
		if f.id == id {
			return f, true
		}
	}
	return fold{}, false
}

// baseGroup returns the group of a generation of the base.
func baseGroup(gen uint64) string {
	if gen == 0 {
		return groupBase
	}
	return groupBase + instanceName(gen)
}

func instanceName(id uint64) string { return fmt.Sprintf("%016x", id) }

func partKey(group string, part uint32) store.Key { return store.Key{Group: group, Part: part} }
