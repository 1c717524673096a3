//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// The layout of the file, which FORMAT.md specifies in full. Everything is in the machine's byte
// order. Changing any offset, meaning or record below changes the major version, which is part of
// the file's name; new record types and new uses of reserved space are minor changes, which older
// readers skip.
//
//	offset   size  header
//	     0      8  magic "gotheus\n", written last
//	     8      4  major version
//	    12      4  minor version of the creator
//	    16      8  byte order mark
//	    24      8  limit: the size that the file may reach, and that every process maps
//	    32     16  seed of record hashes
//	    48      8  creation time, Unix nanoseconds
//	    56      4  number of index buckets, a power of two
//	    60      4  number of instance slots
//	    64      8  first 8 bytes of the SHA-256 of bytes 0..63 with a magic of zeros
//	    80     16  boot id of the machine when the file was last known to be intact
//	   128      8  tail: end of the space given to records (atomic)
//	   192      8  size: bytes allocated on the disk (atomic)
//	   256      8  tickets: number given out (atomic)
//	   320      8  waste: roughly how many bytes a rewrite would save (atomic)
//	   384      8  made: grows whenever series come or go (atomic)
//	   448      8  retired: the newest retired record, as offset/64, and in the upper half the
//	               number of changes of this word (atomic)
//	   512      8  batch: the first record of the batch being reclaimed, as offset/64 (atomic)
//	   520      8  batch ticket: 0 until no chain leads to the batch any more (atomic)
//	   528      8  cursor: the first record of the batch that a chain may lead to, as
//	               offset/64; 2^32-1 if there is none, 0 while the batch is being made (atomic)
//	   576      8  top: the highest end of any record that was ever in the index (atomic)
//	   640      8  reused: number of records made in the space of others (atomic)
//	  1024   4 each  free space: for i from 0 to 767, the first free record of 64 i bytes, as
//	               offset/64, or 0 (atomic)
//	  4096   4 each  index: newest record of each bucket, as offset/64, or 0 (atomic)
//	     …  64 each  instance table
//	     …         records, each beginning at a multiple of 64
//
// A record exists if the index leads to it. Between records there is free space, and there may be
// space that a process took and never used, because it died or because another one was quicker.
// Locks are open-file-description locks on bytes far beyond the end of the file. Creators of
// records take turns with lockByte, to waste no space. The instance in slot i holds lockByte+1+i
// and idLock+id, where id is its id, as long as it lives. A process that replaces the file holds
// all bytes after lockByte. A process whose instance has left slot i holds restLock+i for a while.
const (
	major     = 2
	minor     = 0
	orderMark = 0x0102030405060708

	offMajor     = 8
	offMinor     = 12
	offOrder     = 16
	offLimit     = 24
	offSeed      = 32
	offCreated   = 48
	offBuckets   = 56
	offInstances = 60
	offSum       = 64
	offBoot      = 80
	offTail      = 128
	offSize      = 192
	offTickets   = 256
	offWaste     = 320
	offMade      = 384
	offRetired   = 448
	offBatch     = 512
	offTicket    = 520
	offCursor    = 528
	offTop       = 576
	offReused    = 640
	offFree      = 1024
	offIndex     = 4096

	numFree = (offIndex - offFree) / 4

	numBuckets   = 1 << 14
	numInstances = 1024
	instanceSize = 64

	maxLimit = 1 << 32 * align // records are found by offset/64, which has 32 bits

	restLock = 1 << 45
	lockByte = 1 << 46
	idLock   = 1 << 48

	// maxTickets is more than are ever given out, so that neither a ticket nor the offset of an
	// id's lock overflows. A file with more is damaged.
	maxTickets = 1 << 62
	// maxCount is more than updates let a count reach, not counting its seal, see
	// backend.IntLimit. A count that is larger could become sealed or unsealed by a few more
	// updates.
	maxCount = 3 << 61
)

var magic = []byte("gotheus\n")

// A record.
//
//	offset   size
//	     0      4  size of the record, a multiple of 64
//	     4      2  type
//	     6      2  reserved, 0
//	     8      8  hash of seed, type, family and text
//	    16      4  family: offset/64 of the family's record; 0 in a family's own
//	    20      4  number of words
//	    24      4  length of text: a family's schema, a series' labels, a help text
//	    28      4  length of the extra text behind it: a family's first help text
//	    32      4  CRC-32 (IEEE) of bytes 0..31 and both texts
//	    36      4  next record of the index chain, as offset/64, or 0 (atomic)
//	    40      8  Unix nanoseconds when the record was made
//	    48      4  link: the next record of a list of retired records, or of a series' parts
//	               (atomic)
//	    52      4  state: odd for good once the series is deleted; an instance that makes a
//	               part count adds 2 (atomic)
//	    56      4  held: the lower half of the ticket of the batch in which an instance still
//	               needed the record (atomic)
//	    60      4  parts: the newest part of a series, as offset/64 (atomic)
//	    64         words, 8 bytes each; then text; then extra text; then zeros
//
// A counter's words are thus on a cache line that nothing else writes to.
const (
	recSize    = 0
	recType    = 4
	recHash    = 8
	recFamily  = 16
	recWords   = 20
	recText    = 24
	recExtra   = 28
	recSum     = 32
	recNext    = 36
	recMade    = 40
	recLink    = 48
	recRetired = 52
	recHeld    = 56
	recParts   = 60
	recHeader  = 64

	align = 64

	typeFamily = 1
	typeSeries = 2
	typeHelp   = 3 // a further help text of a family; the newest is shown
	// A part is what an instance has of a series whose family has parts. The record's family
	// field refers to the series, and its text is the number of the instance's slot. The last
	// word is the instance's id: the part counts only while the slot has that id and the id's
	// lock is held.
	typePart = 4
	// A declaration says which instances of a group of slots have declared a family. Its text
	// is the number of the group, "" for the first, and word i is for slot
	// group*declaredSlots+i: the ticket that the instance drew when it declared the family, or
	// 0. It counts only if it is greater than the id in the slot: a lower one is from a former
	// instance. Of families with the same name, the one with the highest such ticket of a live
	// instance is shown.
	typeDeclared  = 5
	declaredSlots = 15 // makes records of 192 bytes

	// A free record is space for another record of exactly its size. Its hash field holds its
	// own offset/64, and its family field refers to the next free record of that size, so that
	// the checksum tells it from everything else.
	typeFree = 0xffff
)

// An instance slot describes a process that has the file open, or died while it had it open.
//
//	offset  size
//	     0     8  id: the ticket drawn when it joined; 0 if the slot is free (atomic,
//	           written last, cleared first)
//	     8     8  start, Unix nanoseconds
//	    16     4  pid, for information only
//	    20     4  reserved
//	    24    32  host name, cut or padded with zeros
//	    56     8  the ticket of the last batch that the instance does not need any more (atomic)
const (
	insID    = 0
	insStart = 8
	insPID   = 16
	insHost  = 24
	insSeen  = 56
)

// errForeign is wrapped, in addition to ErrFormat, by errors about intact files that this program
// cannot use.
var errForeign = errors.New("made for other programs")

// header holds the fields that never change after creation.
type header struct {
	minor      uint32
	limit      uint64
	seed       [16]byte
	created    uint64
	buckets    uint32
	instances  uint32
	recordsAt  uint64 // derived
	instanceAt uint64 // derived
}

func (h *header) derive() {
	h.instanceAt = offIndex + roundUp(uint64(h.buckets)*4)
	h.recordsAt = h.instanceAt + uint64(h.instances)*instanceSize
}

func roundUp(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }

var order = binary.NativeEndian

// encode returns the header's page with zeros in place of the magic.
func (h *header) encode() []byte {
	p := make([]byte, offIndex)
	order.PutUint32(p[offMajor:], major)
	order.PutUint32(p[offMinor:], minor)
	order.PutUint64(p[offOrder:], orderMark)
	order.PutUint64(p[offLimit:], h.limit)
	copy(p[offSeed:], h.seed[:])
	order.PutUint64(p[offCreated:], h.created)
	order.PutUint32(p[offBuckets:], h.buckets)
	order.PutUint32(p[offInstances:], h.instances)
	sum := sha256.Sum256(p[:offSum])
	copy(p[offSum:], sum[:8])
	order.PutUint64(p[offTail:], h.recordsAt)
	order.PutUint64(p[offTop:], h.recordsAt)
	order.PutUint64(p[offSize:], h.recordsAt+minGrowth)
	return p
}

// decodeHeader checks the header page, before anything else in the file is used. The file's size
// bounds the values in it.
func decodeHeader(p []byte, fileSize uint64) (*header, error) {
	if len(p) < offIndex || !bytes.Equal(p[:8], magic) {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	if mark := order.Uint64(p[offOrder:]); mark != orderMark {
		if mark != bits.ReverseBytes64(orderMark) {
			return nil, fmt.Errorf("%w: its byte order mark is invalid", ErrFormat)
		}
		return nil, fmt.Errorf("%w: %w: written on a machine of another byte order", ErrFormat, errForeign)
	}
	fixed := bytes.Clone(p[:offSum])
	clear(fixed[:8])
	if sum := sha256.Sum256(fixed); !bytes.Equal(sum[:8], p[offSum:offSum+8]) {
		return nil, fmt.Errorf("%w: the header's checksum is wrong", ErrFormat)
	}
	if v := order.Uint32(p[offMajor:]); v != major {
		return nil, fmt.Errorf("%w: %w: it has format version %d, this program reads version %d", ErrFormat, errForeign, v, major)
	}
	h := &header{
		minor:     order.Uint32(p[offMinor:]),
		limit:     order.Uint64(p[offLimit:]),
		created:   order.Uint64(p[offCreated:]),
		buckets:   order.Uint32(p[offBuckets:]),
		instances: order.Uint32(p[offInstances:]),
	}
	copy(h.seed[:], p[offSeed:])
	if h.buckets == 0 || h.buckets&(h.buckets-1) != 0 || h.buckets > 1<<28 || h.instances == 0 || h.instances > 1<<20 {
		return nil, fmt.Errorf("%w: %d index buckets and %d instance slots are invalid", ErrFormat, h.buckets, h.instances)
	}
	h.derive()
	if h.limit > maxLimit {
		return nil, fmt.Errorf("%w: the limit of %d bytes is invalid", ErrFormat, h.limit)
	}
	if n := order.Uint64(p[offTickets:]); n >= maxTickets {
		return nil, fmt.Errorf("%w: the number of tickets is %d, which is too large", ErrFormat, n)
	}
	if h.recordsAt > fileSize || fileSize > h.limit {
		return nil, fmt.Errorf("%w: it has %d bytes, and by its header must have %d to %d", ErrFormat, fileSize, h.recordsAt, h.limit)
	}
	return h, nil
}

// memory is the mapped file. Its accessors check bounds like a slice. Parts that are mapped but not
// allocated on the disk must not be accessed at all, see segment.allocated.
type memory []byte

// Safety: the mapping begins at a page, callers pass multiples of the word's size, and the slice
// expression has checked that the word lies within the mapping, which is never unmapped.

// newMemory returns memory in the heap, for a copy of a file.
func newMemory(n int) memory {
	w := make([]uint64, n/8+1)
	// Safety: the slice has at least n bytes, and begins at a multiple of 8.
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), n)
}

func (m memory) u32(off uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(m[off : off+4])))
}

func (m memory) u64(off uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(m[off : off+8])))
}

func (m memory) words(off uint64, n uint32) []atomic.Uint64 {
	b := m[off : off+8*uint64(n)]
	return unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// offsetOf returns the offset of words that words has returned.
func (m memory) offsetOf(w []atomic.Uint64) uint64 {
	// Safety: both are in the same mapping.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(w))) - uintptr(unsafe.Pointer(unsafe.SliceData(m))))
}

// text returns a copy of some bytes: other processes could change what is mapped.
func (m memory) text(off uint64, n uint32) string { return string(m[off : off+uint64(n)]) }

// record is a decoded record at offset off.
type record struct {
	off, size    uint64
	typ          uint16
	hash         uint64
	family       uint32
	words        uint32
	text, extra  string
	wordsAt      uint64
	textAt       uint64
	textLen, ext uint32
	essential    bool // may use the last part of the file; not stored
}

// layout computes the offsets of the words and the text.
func (r *record) layout() {
	r.wordsAt = r.off + recHeader
	r.textAt = r.wordsAt + 8*uint64(r.words)
}

// need returns the size of the record's contents, rounded up.
func (r *record) need() uint64 {
	return roundUp(recHeader + 8*uint64(r.words) + uint64(r.textLen) + uint64(r.ext))
}

// record decodes and checks the record at off, all of which must lie before end. What it returns
// are copies, which have passed the check, whatever happens to the file later.
func (m memory) record(off, end uint64) (*record, error) {
	damaged := func(what string, v any) (*record, error) {
		return nil, fmt.Errorf("%w: record at offset %d: %s (%v)", ErrFormat, off, what, v)
	}
	if off%align != 0 || off > end || end-off < recHeader {
		return damaged("outside the file, which ends at", end)
	}
	var p [recSum + 4]byte
	copy(p[:], m[off:])
	r := &record{
		off:     off,
		size:    uint64(order.Uint32(p[recSize:])),
		typ:     order.Uint16(p[recType:]),
		hash:    order.Uint64(p[recHash:]),
		family:  order.Uint32(p[recFamily:]),
		words:   order.Uint32(p[recWords:]),
		textLen: order.Uint32(p[recText:]),
		ext:     order.Uint32(p[recExtra:]),
	}
	if r.size < recHeader || r.size%align != 0 || r.size > end-off {
		return damaged("impossible size", r.size)
	}
	if r.need() > r.size {
		return damaged("contents larger than its size", r.need())
	}
	r.layout()
	r.text, r.extra = m.text(r.textAt, r.textLen), m.text(r.textAt+uint64(r.textLen), r.ext)
	if sum := order.Uint32(p[recSum:]); sum != checksum(p[:], r.text, r.extra) {
		return damaged("wrong checksum", sum)
	}
	return r, nil
}

// put writes r at r.off, where nobody reads until the index leads there. It zeroes the space first,
// since another process may have reserved it before, written to it, and given it back.
func (m memory) put(r *record, made int64) {
	p := m[r.off : r.off+r.size]
	clear(p)
	order.PutUint32(p[recSize:], uint32(r.size))
	order.PutUint16(p[recType:], r.typ)
	order.PutUint64(p[recHash:], r.hash)
	order.PutUint32(p[recFamily:], r.family)
	order.PutUint32(p[recWords:], r.words)
	order.PutUint32(p[recText:], r.textLen)
	order.PutUint32(p[recExtra:], r.ext)
	order.PutUint32(p[recSum:], checksum(p, r.text, r.extra))
	order.PutUint64(p[recMade:], uint64(made))
	copy(p[recHeader+8*uint64(r.words):], r.text)
	copy(p[recHeader+8*uint64(r.words)+uint64(r.textLen):], r.extra)
}

func checksum(p []byte, text, extra string) uint32 {
	sum := crc32.ChecksumIEEE(p[:recSum])
	// Safety: the bytes are only read.
	sum = crc32.Update(sum, crc32.IEEETable, unsafe.Slice(unsafe.StringData(text), len(text)))
	return crc32.Update(sum, crc32.IEEETable, unsafe.Slice(unsafe.StringData(extra), len(extra)))
}

// hashOf is seeded per file, so that nobody can construct label values that share a chain.
func (h *header) hashOf(typ uint16, family uint32, text string) uint64 {
	var buf [256]byte
	b := append(buf[:0], h.seed[:]...)
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = binary.LittleEndian.AppendUint32(b, family)
	b = append(b, text...)
	sum := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(sum[:])
}
