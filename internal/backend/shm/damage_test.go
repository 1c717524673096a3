//go:build linux && (386 || amd64 || arm64)

package shm

import (
	"crypto/sha256"
	"slices"
)

// damage changes p, which has spare capacity, cuts or extends it.
func (m *mutator) damage(p memory) memory {
	m.strew(p)
	switch m.IntN(12) {
	case 0:
		p = p[:m.IntN(len(p)+1)]
	case 1:
		p = p[:m.IntN(len(p)/align+1)*align]
	case 2:
		p = p[:len(p)+m.IntN(maxLonger+1)]
	}
	return p
}

// strew makes one to four changes, and may correct the checksums.
func (m *mutator) strew(p memory) {
	for range 1 + m.IntN(4) {
		m.change(p)
	}
	if m.IntN(8) > 0 {
		fixed := slices.Clone(p[:offSum])
		clear(fixed[:8])
		sum := sha256.Sum256(fixed)
		copy(p[offSum:], sum[:8])
	}
	if m.IntN(2) == 0 {
		for _, off := range m.records() {
			m.seal(p, off)
		}
	}
}

// records returns the offsets of the records in the good file.
func (m *mutator) records() (list []int) {
	h, err := decodeHeader(m.good[:offIndex], uint64(len(m.good)))
	if err != nil {
		m.Fatal(err)
	}
	for off := int(h.recordsAt); off < len(m.good)-align; off += int(order.Uint32(m.good[off:])) {
		list = append(list, off)
	}
	return list
}

// seal corrects a record's checksum, and perhaps its hash, if its lengths lie within p.
func (m *mutator) seal(p memory, off int) {
	r := &record{off: uint64(off), words: order.Uint32(p[off+recWords:]), textLen: order.Uint32(p[off+recText:]), ext: order.Uint32(p[off+recExtra:])}
	r.layout()
	if uint64(off)+r.need() > uint64(len(p)) {
		return
	}
	text, extra := string(p[r.textAt:][:r.textLen]), string(p[r.textAt+uint64(r.textLen):][:r.ext])
	if m.IntN(2) == 0 {
		h := new(header)
		copy(h.seed[:], p[offSeed:])
		order.PutUint64(p[off+recHash:], h.hashOf(order.Uint16(p[off+recType:]), order.Uint32(p[off+recFamily:]), text))
	}
	order.PutUint32(p[off+recSum:], checksum(p[off:], text, extra))
}

// The fields worth changing, and their sizes.
var (
	headerFields = [][2]int{{0, 8}, {offMajor, 4}, {offMinor, 4}, {offOrder, 8}, {offLimit, 8}, {offSeed, 8}, {offCreated, 8}, {offBuckets, 4}, {offInstances, 4},
		{offSum, 8}, {offBoot, 8}, {offTail, 8}, {offSize, 8}, {offTickets, 8}, {offWaste, 8}}
	recordFields = [][2]int{{recSize, 4}, {recType, 2}, {recHash, 8}, {recFamily, 4}, {recWords, 4}, {recText, 4}, {recExtra, 4}, {recSum, 4}, {recNext, 4},
		{recMade, 8}, {recHeader, 8}, {recHeader + 8, 8}, {recHeader + 16, 8}, {recHeader + 24, 8}}
)

// change makes one change.
func (m *mutator) change(p memory) {
	list := m.records()
	some := func() int { return list[m.IntN(len(list))] }
	put := func(base int, f [2]int) {
		var v [8]byte
		order.PutUint64(v[:], m.value(p, base+f[0], f[1], some))
		if order.Uint16([]byte{1, 0}) == 1 {
			copy(p[base+f[0]:][:f[1]], v[:])
		} else {
			copy(p[base+f[0]:][:f[1]], v[8-f[1]:])
		}
	}
	switch m.IntN(20) {
	case 0:
		put(0, headerFields[m.IntN(len(headerFields))])
	case 1, 2, 3: // the index
		put(offIndex+4*m.IntN(8), [2]int{0, 4})
	case 4, 5: // instances
		put(offIndex+align+instanceSize*m.IntN(2)+8*m.IntN(3), [2]int{0, 8})
	case 6, 7: // a record, or a part of it, over another
		copy(p[some()+m.IntN(2)*8*m.IntN(8):], p[some():][:8+m.IntN(128)])
	case 8, 9: // anywhere
		for range 1 + m.IntN(8) {
			p[m.IntN(len(p))] = byte(m.Uint32())
		}
	case 10, 11: // a text
		off := some()
		at := off + recHeader + 8*int(order.Uint32(m.good[off+recWords:]))
		for range 1 + m.IntN(3) {
			p[min(at+m.IntN(align), len(p)-1)] = byte(m.Uint32())
		}
	default:
		put(some(), recordFields[m.IntN(len(recordFields))])
	}
}

// value returns an extreme value for a field of n bytes.
func (m *mutator) value(p memory, at, n int, some func() int) uint64 {
	var old uint64
	if n == 8 {
		old = order.Uint64(p[at:])
	} else {
		old = uint64(order.Uint32(p[at:]))
	}
	switch m.IntN(10) {
	case 0:
		return 0
	case 1:
		return ^uint64(0)
	case 2:
		return 1 << m.IntN(64)
	case 3:
		return old + 1
	case 4:
		return old - 1
	case 5:
		return old ^ 1<<m.IntN(8*n)
	case 6:
		return uint64(some()) / align
	case 7:
		return uint64(some())
	case 8:
		return uint64(m.IntN(2*len(p))) / align * []uint64{1, align}[m.IntN(2)]
	}
	return m.Uint64()
}
