package syncer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

const (
	// pieceSize is about how much one commit puts: they hold up the store's other users.
	pieceSize = 96 << 10
	// pieceSeries is how many series one commit adds to the directory.
	pieceSeries = 4 * chunkSize
)

// publish makes the store know everything that was counted before.
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
		s.sure = false
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

func (s *Syncer) publishOnce(ctx context.Context) error {
	if !s.sure {
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
		// The new value replaces what others have added and set so far.
		if err := s.readHeads(ctx); err != nil {
			return err
		}
		if err := s.fetchOthers(ctx, func(n uint32) bool { return n >= gaugeChunks }, nil); err != nil {
			return err
		}
		r.mayStamp = true
	}
	if s.unlisted { // since the heads were read again: what is published now would lack series
		return store.ErrConflict
	}
	return r.publishWords(ctx)
}

// commit does c if meta is still what is known, and notes when the outcome is not known.
func (s *Syncer) commit(ctx context.Context, c *store.Commit) error {
	if c.If == nil {
		c.If = make(map[string][]byte)
	}
	c.If[headMeta] = s.metaRaw
	err := s.store.Commit(ctx, c)
	if err != nil {
		s.sure = false
	}
	return err
}

// appendDirectory gives numbers to what this process has and the directory has not.
func (s *Syncer) appendDirectory(ctx context.Context) error {
	for {
		c, apply := s.nextEntries()
		if c == nil {
			s.unlisted = false
			return nil
		}
		if err := s.commit(ctx, c); err != nil {
			return err
		}
		s.mu.Lock()
		apply()
		s.mu.Unlock()
	}
}

// nextEntries returns a commit that appends some families or series, and what is to be done after it; nil if
// there is nothing to append.
func (s *Syncer) nextEntries() (*store.Commit, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.meta
	c := &store.Commit{Parts: make(map[store.Key][]byte)}
	var fams []declaration
	for i := range s.declared {
		d := &s.declared[i]
		if !s.dir.helps[d.fam.schema+"\x00"+d.help] && len(fams) < chunkSize {
			e := d.fam.entry(d.help)
			c.Parts[partKey(groupFamilies, uint32(m.lists[families].n))] = e
			m.lists[families].add(e)
			fams = append(fams, *d)
		}
	}
	var rows []*row
	n := 0 // of fresh
	if len(fams) == 0 {
		if s.sorted != len(s.fresh) { // once for all pieces, of which there may be thousands
			s.fresh = slices.DeleteFunc(s.fresh, func(r *row) bool { return r.id != noID })
			slices.SortFunc(s.fresh, func(a, b *row) int { // so that a family's series are side by side
				if a.fam != b.fam {
					return a.fam.id - b.fam.id
				}
				return strings.Compare(a.labels, b.labels)
			})
			s.fresh = slices.Compact(s.fresh)
			s.sorted = len(s.fresh)
		}
		for ; n < len(s.fresh) && len(rows) < pieceSeries; n++ {
			if r := s.fresh[n]; r.id == noID { // else others have listed it meanwhile
				rows = append(rows, r)
			}
		}
		touched := make(map[uint32]bool)
		next := [2]int{len(s.dir.rows[0]), len(s.dir.rows[1])}
		for _, r := range rows {
			list := r.fam.list()
			at := next[list-series]
			next[list-series]++
			key := partKey(groupDirectory, uint32(at>>chunkBits)+uint32(list-series)*gaugeChunks)
			if !touched[key.Part] {
				touched[key.Part] = true
				known := s.dir.rows[list-series]
				for _, old := range known[min(at&^(chunkSize-1), len(known)):] {
					c.Parts[key] = old.entry(c.Parts[key])
				}
			}
			e := r.entry(nil)
			c.Parts[key] = append(c.Parts[key], e...)
			m.lists[list].add(e)
		}
	}
	if len(c.Parts) == 0 {
		s.fresh, s.sorted = nil, 0
		return nil, nil
	}
	raw := m.encode()
	c.Heads = map[string][]byte{headMeta: raw}
	return c, func() {
		s.meta, s.metaRaw = m, raw
		for _, d := range fams {
			s.appendFamily(d.fam, d.help)
		}
		s.fresh, s.sorted = s.fresh[n:], s.sorted-n // to which others may have been added
		for _, r := range rows {
			s.dir.append(r)
			if r.own != nil {
				s.listOwn(r)
			}
		}
	}
}

// publishDeletes tells the others which series this process has deleted: the base has them in a new life.
func (s *Syncer) publishDeletes(ctx context.Context) error {
	for {
		s.mu.Lock()
		none := len(s.deletes) == 0
		s.mu.Unlock()
		if none {
			return nil
		}
		if err := s.readHeads(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		lives := make(map[uint32]map[uint32]uint64) // by chunk and series
		var rows []*row
		for r, life := range s.deletes {
			if r.id == noID { // nobody has heard of it, or it is about to be restored
				if r.own == nil && len(s.orphans) == 0 && s.baseOrphan == nil {
					delete(s.deletes, r)
				}
				continue
			}
			if life == 0 {
				life = r.life + 1
			}
			n := chunkOf(r.id)
			if lives[n] == nil {
				if len(lives) >= pieceSize/partSize {
					continue
				}
				lives[n] = make(map[uint32]uint64)
			}
			lives[n][r.id] = life
			rows = append(rows, r)
		}
		s.mu.Unlock()
		if len(rows) == 0 {
			return nil
		}
		h := s.baseHead.next()
		c := &store.Commit{Parts: make(map[store.Key][]byte)}
		fresh := make(map[uint32]chunk)
		for n, deleted := range lives {
			m, err := s.decode(n, &s.base)
			if err != nil {
				return err
			}
			for id, life := range deleted {
				if e := m[id]; e.row == nil || e.life < life {
					m[id] = entry{row: s.dir.row(id), life: life}
				}
			}
			fresh[n] = s.encode(n, m, h.version)
		}
		h.put(c, s.base.group(), fresh)
		m := s.meta
		m.deletions++
		raw := m.encode()
		c.Heads[headMeta] = raw
		c.If = map[string][]byte{headBase: s.base.rawOrNil()}
		if err := s.commit(ctx, c); err != nil {
			return err
		}
		s.meta, s.metaRaw = m, raw
		s.setBase(h, c.Heads[headBase], fresh)
		s.mu.Lock()
		for _, r := range rows {
			s.setLife(r, lives[chunkOf(r.id)][r.id])
			delete(s.deletes, r)
		}
		s.mu.Unlock()
	}
}

// anySet reports whether a gauge was set whose Set must be ordered among those of others.
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

// round is one publication of own words.
type round struct {
	s        *Syncer
	mayStamp bool // all that others have done is known
	stamped  bool
	sums     map[uint32]map[uint32]float64 // what others have added to shared gauges, by chunk and series
	err      error
}

// stamp returns the place of a Set in the order of all.
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
	rivals := s.ownRivals()
	s.mu.Unlock()
	next := s.self.copy()
	next.head.rivals = rivals
	if s.numberTaken() {
		next.head.number = s.freeNumber()
	}
	parts, size := make(map[store.Key][]byte), 0
	var payload []byte
	for _, n := range numbers {
		old, had := next.chunks[n]
		var l look
		if known, idle := s.looks[n]; idle && had {
			if l = s.look(n, old.seq); l.seq > 0 && l == known {
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
			s.looks[n] = l
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
		delete(s.looks, n)
		s.dirty[n] = true
		if size >= s.piece && !s.anew {
			if err := r.put(ctx, &next, parts); err != nil {
				return err
			}
			next = s.self.copy() // with what was changed above
			clear(parts)
			size = 0
		}
	}
	if size > 0 || s.self.raw == nil || next.head.number != s.self.head.number || !slices.Equal(next.head.rivals, s.self.head.rivals) || s.now().Sub(s.lastPut) >= s.opt.Alive/4 {
		return r.put(ctx, &next, parts)
	}
	return nil
}

// look is what can be told of an own chunk of counters in less time than it takes to encode it: as they only grow, and their
// starts, too, until they are deleted, the sum is another one if anything has changed.
type look struct {
	seq   uint64 // of the chunk that had been published
	lives uint64
	words [2]uint64 // 128 bits, so that it never wraps
}

// look looks at a chunk. The result is zero if there is something else in it than counters, or something was deleted.
func (s *Syncer) look(n uint32, seq uint64) (l look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.chunks[n] {
		f, w := row.fam, row.own.words
		if f.adding != addCounters || row.own.deleting {
			return look{}
		}
		ints, floats, start := w[backend.CounterInt].Load(), w[backend.CounterFloat].Load(), uint64(0)
		if ints >= backend.SealedInt || floats == backend.SealedFloat {
			return look{}
		}
		if f.start >= 0 {
			start = w[f.start].Load()
		}
		l.lives += row.life + 1
		l.add(ints)
		l.add(floats)
		l.add(start)
	}
	l.seq = seq
	return l
}

func (l *look) add(word uint64) {
	low, carry := bits.Add64(l.words[0], word, 0)
	l.words[0], l.words[1] = low, l.words[1]+carry
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
		m.joins = max(m.joins, s.self.head.join) + 1 // so that no two instances take the same number
		for _, c := range s.others {
			m.joins = max(m.joins, c.head.join+1) // the store may have forgotten
		}
		if h.join == 0 {
			h.join = m.joins
		}
		c.Heads[headMeta] = m.encode()
	}
	if s.now().Sub(s.lastPut) >= s.opt.Alive/2 { // others take it for dead after three times as long
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
	s.self, s.anew = c, false
	for n := range c.chunks {
		s.dirty[n] = true
	}
}

// numberTaken reports whether another live instance has the same number: the store had forgotten this one when it gave
// it away. One of the two keeps it.
func (s *Syncer) numberTaken() bool {
	for _, c := range s.others {
		if s.self.raw != nil && c.live && c.head.number == s.self.head.number && c.id < s.self.id {
			return true
		}
	}
	return false
}

// freeNumber returns the least number that no live instance has.
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

// copy returns a contributor that can be changed without changing c.
func (c *contributor) copy() contributor {
	d := *c
	d.chunks = maps.Clone(c.chunks)
	if d.head.chunks = maps.Clone(c.head.chunks); d.head.chunks == nil || len(c.chunks) == 0 {
		d.head.chunks = make(chunkSeqs)
	}
	return d
}

// rawOrNil is the condition that the head be as it is known.
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

// encode appends the words of the own series in a chunk.
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
				o.gauge.last(words)
				break
			}
			o.gauge.look(o.words, words, func() float64 { return r.others(row) }, r.stamp)
		case f.latest():
			f.read(words, o.words)
			if ticket := words[backend.GaugeTicket]; ticket != o.ticket && r.mayStamp {
				o.ticket, o.stamp = ticket, r.stamp()
			}
			words[backend.GaugeTicket] = o.stamp
		default:
			f.read(words, o.words)
		}
		w.entry(row.id, row.life, f, words)
	}
	return w.end(), w.n == 0
}

// others returns what all others have added to a shared gauge. s.mu is held.
func (r *round) others(row *row) float64 {
	s, n := r.s, chunkOf(row.id)
	sums := r.sums[n]
	if sums == nil {
		sums = make(map[uint32]float64)
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
					sums[cr.id] += math.Float64frombits(cr.words[gaugeAdded])
				}
			}
		}
		add(&s.base)
		for _, c := range s.others {
			add(c)
		}
		if r.sums == nil {
			r.sums = make(map[uint32]map[uint32]float64)
		}
		r.sums[n] = sums
	}
	return sums[row.id]
}

// latest reports whether the instance that was set last is shown.
func (f *family) latest() bool {
	return f.def != nil && f.def.Mode == backend.Latest
}
