package syncer

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
	"github.com/gotheus/gotheus/store"
)

// round is one publication of this instance's words.
type round struct {
	s        *Syncer
	inline   bool // new series are published without numbers
	patient  bool // there were few conflicts
	mayStamp bool // the words of all other instances are up to date
	stamped  bool
	// What other instances have added to shared gauges, by chunk and series.
	sums map[uint32]map[uint32]exact.Sum
	err  error

	newest    uint64 // version that assigned the last number in the chunk encoded last
	directory []byte // the head "dir" that the store must have; nil: any
}

// stamp returns a Lamport stamp, the place of a Set in the order of all Sets.
func (r *round) stamp() uint64 {
	if !r.stamped {
		r.stamped = true
		r.s.lamport++
	}
	return r.s.lamport<<16 | r.s.self.id&0xffff
}

func (r *round) publishWords(ctx context.Context) error {
	s := r.s
	s.mu.LockLast()
	numbers := slices.Sorted(maps.Keys(s.chunks))
	variants := s.ownVariants()
	newest := s.newestOwn
	s.mu.Unlock()
	next := s.self.copy()
	next.head.variants = variants
	if newest > next.head.dir {
		// The store must still have the directory that this process knows: if it went back
		// to an older state, another series may get the same number.
		next.head.dir, r.directory = s.dir.version, s.dir.raw
		clear(s.digests)
	}
	if s.taken && s.self.raw != nil {
		next.head.number, s.taken, s.verified = s.freeNumber(), false, false
	}
	p := piece{parts: make(map[store.Key][]byte)}
	r.putInline(&next, &p)
	var payload []byte
	for _, n := range numbers {
		old, had := next.chunks[n]
		var l digest
		if known, idle := s.digests[n]; idle && had {
			if l = s.digest(n, old.seq); l.seq > 0 && l == known {
				continue
			}
		}
		var empty bool
		payload, empty = r.encode(payload[:0], n, next.head.dir)
		if r.err != nil {
			return r.err
		}
		switch {
		case empty && !had:
			s.forgetChunk(n)
			continue
		case had && !empty && sameWords(old.data, payload, r.newest):
			s.digests[n] = l
			continue
		case empty:
			delete(next.chunks, n)
			delete(next.head.chunks, n)
			p.parts[partKey(next.group(), n)] = chunk{seq: s.seq + 1}.part()
			p.size++
		default:
			c := chunk{seq: s.seq + 1, data: bytes.Clone(payload)}
			next.chunks[n] = c
			next.head.chunks[n] = c.seq
			p.parts[partKey(next.group(), n)] = c.part()
			p.size += len(c.data)
		}
		delete(s.digests, n)
		s.dirty[n] = true
		if p.size >= s.piece && !s.republish {
			if err := r.put(ctx, &next, p.parts); err != nil {
				return err
			}
			next = s.self.copy() // the state just committed
			p = piece{parts: make(map[store.Key][]byte)}
		}
	}
	h, old := &next.head, &s.self.head
	h.left = s.leaving
	if p.size > 0 || s.self.raw == nil || h.left != old.left || h.number != old.number || !slices.Equal(h.variants, old.variants) || s.now().Sub(s.lastPut) >= s.opt.Alive/4 {
		return r.put(ctx, &next, p.parts)
	}
	return nil
}

// piece is what one commit publishes.
type piece struct {
	parts map[store.Key][]byte
	size  int // in bytes
}

// sameWords reports whether two chunks have the same words of the same series, although they may
// have been encoded with different versions of the directory. newest is the one that assigned the
// last number in b.
func sameWords(a, b []byte, newest uint64) bool {
	version, n := binary.Uvarint(a)
	_, m := binary.Uvarint(b)
	return n > 0 && m > 0 && version >= newest && bytes.Equal(a[n:], b[m:])
}

// forgetChunk forgets a chunk without own series.
func (s *Syncer) forgetChunk(n uint32) {
	s.mu.LockLast()
	defer s.mu.Unlock()
	if len(s.chunks[n]) == 0 {
		delete(s.chunks, n)
	}
}

// put commits the next state of this instance.
func (r *round) put(ctx context.Context, next *contributor, parts map[store.Key][]byte) error {
	s := r.s
	c := &store.Commit{If: make(map[string][]byte), Heads: make(map[string][]byte), Parts: parts}
	h := &next.head
	if s.self.raw == nil && h.startMS == 0 {
		h.startMS = uint64(s.now().UnixMilli())
		h.number = s.freeNumber()
	}
	if s.self.raw == nil && h.join == 0 {
		h.join = s.lastJoin() + 1
	}
	if s.now().Sub(s.lastPut) >= s.opt.Alive/2 { // others fold after three times as long
		s.remember()
	}
	s.seq++
	h.restored = 0
	h.epoch, h.seq, h.stamp, h.aliveMS = s.meta.epoch, s.seq, s.lamport, uint64(s.opt.Alive.Milliseconds())
	next.raw = h.encode()
	name := next.group()
	c.If[name] = s.self.raw
	c.Heads[name] = next.raw
	if s.self.raw == nil {
		// A head that is missing may have been folded: this commit may be late, or another
		// process may restore a base that has it.
		c.If[deadPfx+instanceName(next.id)] = nil
		if s.seq > 1 {
			c.If[headBase] = s.base.rawOrNil()
		}
		s.continueFormer(c)
	}
	if r.directory != nil {
		c.If[headDirectory] = r.directory
	}
	if r.patient && h.dir > 0 {
		c.If[headDeletions] = s.seenDeletions // what is published is not of deleted series
	}
	keep := s.keep(c, h.left)
	s.sent = append(s.sent[max(0, len(s.sent)-maxPast):], *next)
	if err := s.commit(ctx, c); err != nil {
		return err
	}
	keep()
	s.sent = nil
	s.setSelf(*next)
	s.lastPut, s.selfSeen = s.now(), presence{s.now(), s.baseHead.version}
	s.published.Add(1)
	return nil
}

// encode appends the words of this instance's series in a chunk, as of a version of the directory.
func (r *round) encode(b []byte, n uint32, version uint64) (data []byte, empty bool) {
	s := r.s
	s.mu.LockLast()
	defer s.mu.Unlock()
	w := &s.writer
	w.begin(b, n, version)
	r.newest = 0
	for _, row := range s.chunks[n] {
		if row.since > version {
			continue
		}
		if words := r.sample(row); words != nil {
			w.entry(row.id, row.fam, words, nil)
			r.newest = max(r.newest, row.since)
		}
	}
	return w.end(), w.n == 0
}

// sample returns the words of an own series to publish, valid until the next call; nil if it does
// not exist. s.mu is held.
func (r *round) sample(row *row) []uint64 {
	s, f, o := r.s, row.fam, row.own
	if row.gone || f.def.Sealed(o.words) && !f.exemplars {
		return nil
	}
	if cap(s.scratch) < f.stored {
		s.scratch = make([]uint64, f.stored)
	}
	words := s.scratch[:f.stored]
	switch {
	case f.adding != addMerged:
		f.read(words, o.words)
	case f.shared:
		if !r.mayStamp && wasSet(o.words) {
			o.gauge.write(words)
			break
		}
		o.gauge.sample(o.words, words, func() float64 { return r.others(row) }, r.stamp)
	case f.latest():
		f.read(words, o.words)
		if ticket := words[backend.GaugeTicket]; ticket != o.ticket && r.mayStamp {
			o.ticket, o.stamp = ticket, r.stamp()
		}
		words[backend.GaugeTicket] = o.stamp
	default:
		f.read(words, o.words)
	}
	return words
}

// others returns the sum of what other instances have added to a shared gauge. s.mu is held.
func (r *round) others(row *row) float64 {
	s := r.s
	var sum exact.Sum
	if row.id != noID {
		n := chunkOf(row.id)
		sums := r.sums[n]
		if sums == nil {
			sums = r.addOthers(n)
		}
		sum = sums[row.id]
	}
	for _, l := range s.loose[row] {
		if l.c != &s.self {
			sum.Add(math.Float64frombits(l.words[gaugeAdded]))
		}
	}
	return sum.Rounded()
}

// addOthers adds up what others have added to the shared gauges of a chunk. s.mu is held.
func (r *round) addOthers(n uint32) map[uint32]exact.Sum {
	s, sums := r.s, make(map[uint32]exact.Sum)
	add := func(c *contributor) {
		cr := newChunkReader(c.chunks[n].data, n, nil)
		for {
			ok, err := cr.read(&s.dir)
			if err != nil {
				r.err = err
			}
			if !ok || err != nil {
				return
			}
			sum := sums[cr.id]
			sum.Add(math.Float64frombits(cr.words[gaugeAdded]))
			for _, v := range cr.low {
				sum.Add(math.Float64frombits(v))
			}
			sums[cr.id] = sum
		}
	}
	add(&s.base)
	for _, c := range s.others {
		add(c)
	}
	if r.sums == nil {
		r.sums = make(map[uint32]map[uint32]exact.Sum)
	}
	r.sums[n] = sums
	return sums
}
