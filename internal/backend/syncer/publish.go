package syncer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
	"github.com/gotheus/gotheus/store"
)

const (
	// pieceSize is the approximate size of one commit, in bytes: the store's other users wait
	// for it.
	pieceSize = 96 << 10
	// pieceSeries is the number of series that one commit adds to the directory.
	pieceSeries = 4 * chunkSize
)

// publish returns when the store has everything that was counted before the call.
func (s *Syncer) publish(ctx context.Context) error {
	var err error
	for range rounds {
		begun := s.now()
		if err = s.publishOnce(ctx); err == nil {
			s.mu.Lock()
			s.complete = begun
			s.mu.Unlock()
			return nil
		}
		s.current = false
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func (s *Syncer) publishOnce(ctx context.Context) error {
	if !s.current {
		if err := s.readHeads(ctx); err != nil {
			return err
		}
	}
	if err := s.appendDirectory(ctx); err != nil {
		return err
	}
	if err := s.publishDeletes(ctx); err != nil {
		return err
	}
	r := round{s: s}
	if s.anySet() {
		// The base of a Set depends on what other instances have added and set so far.
		if err := s.readHeads(ctx); err != nil {
			return err
		}
		if err := s.fetchOthers(ctx, func(n uint32) bool { return n >= gaugeChunks }, nil); err != nil {
			return err
		}
		r.mayStamp = true
	}
	if s.unnumbered { // the heads just read reveal a loss: some own series have no number
		return store.ErrConflict
	}
	return r.publishWords(ctx)
}

// commit applies c if meta is unchanged. After an error, the known state is no longer current.
func (s *Syncer) commit(ctx context.Context, c *store.Commit) error {
	if c.If == nil {
		c.If = make(map[string][]byte)
	}
	c.If[headMeta] = s.metaRaw
	err := s.store.Commit(ctx, c)
	if err != nil {
		s.current = false
	}
	return err
}

// anySet reports whether there is a new Set that must be ordered with those of other processes.
func (s *Syncer) anySet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.stamping {
		if o := r.own; r.fam.shared && wasSet(o.words) || r.fam.latest() && o.ticket != o.words[backend.GaugeTicket].Load() {
			return true
		}
	}
	return false
}

// round is one publication of this instance's words.
type round struct {
	s        *Syncer
	mayStamp bool // the words of all other instances are up to date
	stamped  bool
	// What other instances have added to shared gauges, by chunk and series.
	sums map[uint32]map[uint32]exact.Sum
	err  error
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
	s.mu.Lock()
	numbers := slices.Sorted(maps.Keys(s.chunks))
	variants := s.ownVariants()
	s.mu.Unlock()
	next := s.self.copy()
	next.head.variants = variants
	if s.numberTaken() {
		next.head.number = s.freeNumber()
	}
	parts, size := make(map[store.Key][]byte), 0
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
		payload, empty = r.encode(payload[:0], n)
		if r.err != nil {
			return r.err
		}
		switch {
		case empty && !had:
			continue
		case had && !empty && bytes.Equal(old.data, payload):
			s.digests[n] = l
			continue
		case empty:
			delete(next.chunks, n)
			delete(next.head.chunks, n)
			size++
		default:
			c := chunk{seq: s.seq + 1, data: bytes.Clone(payload)}
			next.chunks[n] = c
			next.head.chunks[n] = c.seq
			parts[partKey(next.group(), n)] = c.part()
			size += len(c.data)
		}
		delete(s.digests, n)
		s.dirty[n] = true
		if size >= s.piece && !s.republish {
			if err := r.put(ctx, &next, parts); err != nil {
				return err
			}
			next = s.self.copy() // the state just committed
			clear(parts)
			size = 0
		}
	}
	if size > 0 || s.self.raw == nil || next.head.number != s.self.head.number || !slices.Equal(next.head.variants, s.self.head.variants) || s.now().Sub(s.lastPut) >= s.opt.Alive/4 {
		return r.put(ctx, &next, parts)
	}
	return nil
}

// put commits the next state of this instance.
func (r *round) put(ctx context.Context, next *contributor, parts map[store.Key][]byte) error {
	s := r.s
	c := &store.Commit{If: make(map[string][]byte), Heads: make(map[string][]byte), Parts: parts}
	m := s.meta
	h := &next.head
	if s.self.raw == nil {
		if h.startMS == 0 {
			h.startMS = uint64(s.now().UnixMilli())
			h.number = s.freeNumber()
		}
		// Changes meta, so that two instances cannot take the same number at once.
		m.joins = max(m.joins, s.self.head.join) + 1
		for _, c := range s.others {
			m.joins = max(m.joins, c.head.join+1) // the store may have lost the count
		}
		if h.join == 0 {
			h.join = m.joins
		}
		c.Heads[headMeta] = m.encode()
	}
	if s.now().Sub(s.lastPut) >= s.opt.Alive/2 { // others fold after three times as long
		s.remember()
	}
	s.seq++
	h.seq, h.stamp, h.aliveMS = s.seq, s.lamport, uint64(s.opt.Alive.Milliseconds())
	next.raw = h.encode()
	name := next.group()
	c.If[name] = s.self.raw
	c.Heads[name] = next.raw
	s.sent = append(s.sent[max(0, len(s.sent)-maxPast):], *next)
	if err := s.commit(ctx, c); err != nil {
		return err
	}
	if raw := c.Heads[headMeta]; raw != nil {
		s.meta, s.metaRaw = m, raw
	}
	s.sent = nil
	s.setSelf(*next)
	s.lastPut, s.baseSeen = s.now(), s.baseHead.version
	s.published.Add(1)
	return nil
}

func (s *Syncer) setSelf(c contributor) {
	s.self, s.republish = c, false
	for n := range c.chunks {
		s.dirty[n] = true
	}
}

// numberTaken reports whether another live instance has the same number and keeps it: the store had
// lost this instance when it handed the number out. The instance with the higher id changes its
// number.
func (s *Syncer) numberTaken() bool {
	for _, c := range s.others {
		if s.self.raw != nil && c.live && c.head.number == s.self.head.number && c.id < s.self.id {
			return true
		}
	}
	return false
}

// freeNumber returns the lowest number that no other instance has.
func (s *Syncer) freeNumber() uint64 {
	used := make(map[uint64]bool)
	for _, c := range s.others {
		used[c.head.number] = true
	}
	n := uint64(0)
	for used[n] {
		n++
	}
	return n
}

// copy returns a contributor that can be modified without modifying c.
func (c *contributor) copy() contributor {
	d := *c
	d.chunks = maps.Clone(c.chunks)
	if d.head.chunks = maps.Clone(c.head.chunks); d.head.chunks == nil || len(c.chunks) == 0 {
		d.head.chunks = make(chunkSeqs)
	}
	return d
}

// rawOrNil is the value for Commit.If that requires the stored head to be the known one.
func (c *contributor) rawOrNil() []byte {
	if len(c.raw) == 0 {
		return nil
	}
	return c.raw
}

// part returns the stored form of a chunk.
func (c chunk) part() []byte {
	return append(binary.AppendUvarint(make([]byte, 0, len(c.data)+10), c.seq), c.data...)
}

func parsePart(b []byte) (chunk, error) {
	seq, n := binary.Uvarint(b)
	if n <= 0 {
		return chunk{}, fmt.Errorf("%w: part", errFormat)
	}
	return chunk{seq, b[n:]}, nil
}

// encode appends the words of this instance's series in a chunk.
func (r *round) encode(b []byte, n uint32) (data []byte, empty bool) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.writer
	w.begin(b, n)
	for _, row := range s.chunks[n] {
		f, o := row.fam, row.own
		if o.deleting || f.def.Sealed(o.words) && !f.exemplars {
			continue
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
		w.entry(row.id, row.life, f, words, nil)
	}
	return w.end(), w.n == 0
}

// others returns the sum of what other instances have added to a shared gauge. s.mu is held.
func (r *round) others(row *row) float64 {
	s, n := r.s, chunkOf(row.id)
	sums := r.sums[n]
	if sums == nil {
		sums = make(map[uint32]exact.Sum)
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
				if !cr.empty && cr.life == cr.row.life {
					sum := sums[cr.id]
					sum.Add(math.Float64frombits(cr.words[gaugeAdded]))
					for _, v := range cr.low {
						sum.Add(math.Float64frombits(v))
					}
					sums[cr.id] = sum
				}
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
	}
	sum := sums[row.id]
	return sum.Rounded()
}

// latest reports whether pages show the value of the instance with the last Set.
func (f *family) latest() bool {
	return f.def != nil && f.def.Mode == backend.Latest
}
