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

// The file, which FORMAT.md specifies in full. All of it is in the byte order of the machine. Changing any
// offset, meaning or record below changes the major version, which is part of the file's name; new record
// types and new uses of reserved space are minor changes, which older readers skip.
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
//	    80     16  boot: identifies the run of the machine in which the file was last known to be whole
//	   128      8  tail: end of the space that was given to records (atomic)
//	   192      8  size: bytes that are allocated on the disk       (atomic)
//	   256      8  tickets: how many were given out                 (atomic)
//	   320      8  waste: about how many bytes of records a rewrite would save (atomic)
//	  4096   4 each  index: a bucket is the newest record of its chain, as offset/64, or 0 (atomic)
//	     …  64 each  instance table
//	     …         records, each beginning at a multiple of 64
//
// A record exists if the index leads to it. Between records there may be space that a process took and
// never used, because it died or because another one was quicker.
//
// Locks are open-file-description locks on bytes far behind the end of the file: lockByte is held for
// creating records without waste; lockByte+1+i and idLock+id are held by the instance in slot i with that id
// for as long as it lives; all bytes behind lockByte are held at once by who replaces the file by another.
const (
	major     = 1
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
	offIndex     = 4096

	numBuckets   = 1 << 14
	numInstances = 1024
	instanceSize = 64

	maxLimit = 1 << 32 * align // records are found by offset/64, which has 32 bits

	lockByte = 1 << 46
	idLock   = 1 << 48

	// maxTickets is more than are ever given out, so that neither a ticket nor the lock of an id wraps. A file that
	// says otherwise is damaged.
	maxTickets = 1 << 62
	// maxCount is more than updates let a word of counts hold, beside its seal, see backend.IntLimit. From there on,
	// a few more would seal a word that counts, or open one that is sealed.
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
//	    36      4  next record of the index chain, as offset/64, or 0; never changes once the record
//	               is in the index (atomic)
//	    40      8  Unix nanoseconds when the record was made; when its series began is among the words
//	    48     16  reserved, 0
//	    64         words, 8 bytes each; then text; then extra text; then zeros
//
// A counter's words are thus on a cache line that nothing else writes to.
const (
	recSize   = 0
	recType   = 4
	recHash   = 8
	recFamily = 16
	recWords  = 20
	recText   = 24
	recExtra  = 28
	recSum    = 32
	recNext   = 36
	recMade   = 40
	recHeader = 64

	align = 64

	typeFamily = 1
	typeSeries = 2
	typeHelp   = 3 // another help text of a family; the newest is shown
	// What an instance has of a series whose family has parts. The record's family is that of the series'
	// record, its text the number of the instance's slot, and behind the part's words is one with the
	// instance's id: the words count only while the slot has that id and the id's lock is held.
	typePart = 4
	// Which instances have declared a family, in groups of slots: its text is the number of the group, "" for
	// the first, and word i is that of slot group*declaredSlots+i: the ticket it drew when it declared the
	// family, or 0. It counts only if it is greater than the id in the slot: a lower one is a former
	// instance's. Of families of one name, that with the highest such ticket of a live instance is shown.
	typeDeclared  = 5
	declaredSlots = 15 // makes records of 192 bytes
)

// An instance slot: one process that has the file open, or died with it open.
//
//	offset  size
//	     0     8  id: the ticket that it drew when it came; 0 if the slot is free (atomic, written last,
//	              cleared first)
//	     8     8  start, Unix nanoseconds
//	    16     4  pid, for information only
//	    20     4  reserved
//	    24    40  host name, cut or padded with zeros
const (
	insID    = 0
	insStart = 8
	insPID   = 16
	insHost  = 24
)

// errOther is wrapped by errors, beside ErrFormat, about files that are whole, but not for this program.
var errOther = errors.New("made for other programs")

// header holds what never changes after creation.
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

// encode returns the header's page with a magic of zeros.
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
	order.PutUint64(p[offSize:], h.recordsAt+minGrowth)
	return p
}

// decodeHeader checks what must be right of a header page before anything else is looked at; the size of the file
// bounds what it may say.
func decodeHeader(p []byte, fileSize uint64) (*header, error) {
	if len(p) < offIndex || !bytes.Equal(p[:8], magic) {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	if mark := order.Uint64(p[offOrder:]); mark != orderMark {
		if mark != bits.ReverseBytes64(orderMark) {
			return nil, fmt.Errorf("%w: it has no byte order", ErrFormat)
		}
		return nil, fmt.Errorf("%w: %w: written on a machine of another byte order", ErrFormat, errOther)
	}
	fixed := bytes.Clone(p[:offSum])
	clear(fixed[:8])
	if sum := sha256.Sum256(fixed); !bytes.Equal(sum[:8], p[offSum:offSum+8]) {
		return nil, fmt.Errorf("%w: the header's checksum is wrong", ErrFormat)
	}
	if v := order.Uint32(p[offMajor:]); v != major {
		return nil, fmt.Errorf("%w: %w: it has format version %d, this program reads version %d", ErrFormat, errOther, v, major)
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
		return nil, fmt.Errorf("%w: %d index buckets and %d instance slots make no sense", ErrFormat, h.buckets, h.instances)
	}
	h.derive()
	if h.limit > maxLimit {
		return nil, fmt.Errorf("%w: a limit of %d bytes makes no sense", ErrFormat, h.limit)
	}
	if n := order.Uint64(p[offTickets:]); n >= maxTickets {
		return nil, fmt.Errorf("%w: it says that %d tickets were given out", ErrFormat, n)
	}
	if h.recordsAt > fileSize || fileSize > h.limit {
		return nil, fmt.Errorf("%w: it has %d bytes, the header speaks of %d to %d", ErrFormat, fileSize, h.recordsAt, h.limit)
	}
	return h, nil
}

// memory is the mapped file. Its accessors check bounds like a slice; what is mapped but not
// allocated on the disk must not be touched at all, see segment.allocated.
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

// text returns bytes of a committed record as a string without copying them: they never change.
// Safety: as above.
func (m memory) text(off uint64, n uint32) string {
	return unsafe.String(unsafe.SliceData(m[off:off+uint64(n)]), n)
}

// record is a decoded record; off is where it begins.
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
	precious     bool // may use the last part of the file; not stored
}

// layout fills the derived fields from the lengths.
func (r *record) layout() {
	r.wordsAt = r.off + recHeader
	r.textAt = r.wordsAt + 8*uint64(r.words)
}

// need is the size that the record's contents ask for.
func (r *record) need() uint64 {
	return roundUp(recHeader + 8*uint64(r.words) + uint64(r.textLen) + uint64(r.ext))
}

// record decodes and checks the record at off, all of which must lie before end.
func (m memory) record(off, end uint64) (*record, error) {
	damaged := func(what string, v any) (*record, error) {
		return nil, fmt.Errorf("%w: record at offset %d: %s (%v)", ErrFormat, off, what, v)
	}
	if off%align != 0 || off > end || end-off < recHeader {
		return damaged("outside of the file, which ends at", end)
	}
	p := m[off : off+recHeader]
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
	if sum := order.Uint32(p[recSum:]); sum != checksum(p, r.text, r.extra) {
		return damaged("wrong checksum", sum)
	}
	return r, nil
}

// put writes r at r.off, where nobody sees it until the index leads there. All its space is zeroed first,
// since somebody may have taken that space before, written to it, and given it back.
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

// hashOf is seeded per file, so that nobody can prepare label values that share a chain.
func (h *header) hashOf(typ uint16, family uint32, text string) uint64 {
	var buf [256]byte
	b := append(buf[:0], h.seed[:]...)
	b = binary.LittleEndian.AppendUint16(b, typ)
	b = binary.LittleEndian.AppendUint32(b, family)
	b = append(b, text...)
	sum := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(sum[:])
}
