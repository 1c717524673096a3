package syncer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/exact"
	"github.com/gotheus/gotheus/store"
)

// publish returns when the store has everything that was counted before the call.
func (s *Syncer) publish(ctx context.Context) error {
	var err error
	for attempt := range rounds {
		begun := s.now()
		if err = s.publishOnce(ctx, attempt); err == nil {
			s.mu.Lock()
			s.complete = begun
			s.mu.Unlock()
			s.behind = false
			return nil
		}
		s.current = false
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
}

// patient is how many conflicts a publication bears before it does without what it conflicts over.
const patient = 3

func (s *Syncer) publishOnce(ctx context.Context, attempt int) error {
	first := s.self.raw == nil
	// Who joins needs to know the numbers of all others, unless it leaves at once.
	joins := first && !s.leaving && s.seq == 0
	if joins || !s.current {
		read := s.readCommon
		if joins {
			read = s.readMembers
		}
		if err := read(ctx); err != nil {
			return err
		}
	}
	r := round{s: s, patient: attempt < patient}
	s.mu.Lock()
	busy := attempt > 1 || attempt > 0 && first // others change the directory all the time
	r.inline = (s.leaving || busy) && s.waiting.n <= inlineLimit
	s.mu.Unlock()
	if err := s.number(ctx, r.inline); err != nil {
		return err
	}
	if s.anySet() {
		// The base of a Set depends on what other instances have added and set so far.
		if err := s.readAll(ctx); err != nil {
			return err
		}
		if err := s.fetchOthers(ctx, func(n uint32) bool { return n >= gaugeChunks }, nil); err != nil {
			return err
		}
		s.resolveLoose()
		r.mayStamp = true
	}
	if s.unnumbered && !r.inline { // the heads just read reveal a loss
		return store.ErrConflict
	}
	return r.publishWords(ctx)
}

// number gives the new series of this process numbers, unless they are published without, and
// publishes its deletions. It reads the directory only if something depends on it.
func (s *Syncer) number(ctx context.Context, inline bool) error {
	s.mu.Lock()
	needed := s.endings.n > 0 || s.newestOwn > s.self.head.dir || // see put
		!inline && (s.waiting.n > 0 || !s.declaredAll())
	s.mu.Unlock()
	numbered := s.dir.version > 0 // otherwise no deletion concerns this process
	if !needed && (!numbered || bytes.Equal(s.deletionsRaw, s.seenDeletions)) {
		return nil
	}
	if err := s.checkWaits(ctx); err != nil {
		return err
	}
	if err := s.readDirectory(ctx); err != nil {
		return err
	}
	if err := s.publishDeletes(ctx); err != nil || inline {
		return err
	}
	return s.appendDirectory(ctx)
}

// declaredAll reports whether the directory has all families that this process declares. mu is
// held.
func (s *Syncer) declaredAll() bool {
	if s.ndeclared == len(s.declared) {
		return true
	}
	for _, d := range s.declared {
		if !s.dir.helps[d.fam.schema+"\x00"+d.help] {
			return false
		}
	}
	s.ndeclared = len(s.declared)
	return true
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
func (s *Syncer) anySet() (any bool) {
	s.mu.Lock()
	list := s.stamping
	s.mu.Unlock()
	var kept []*row
	s.inStretches(list, func(r *row) {
		if r.gone {
			return
		}
		kept = append(kept, r)
		o := r.own
		any = any || r.fam.shared && wasSet(o.words) || r.fam.latest() && o.ticket != o.words[backend.GaugeTicket].Load()
	})
	if len(kept) < len(list) {
		s.mu.Lock()
		s.stamping = append(kept, s.stamping[len(list):]...)
		s.mu.Unlock()
	}
	return any
}

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
	s.mu.Lock()
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.chunks[n]) == 0 {
		delete(s.chunks, n)
	}
}

// putInline adds the series without numbers, if they have changed, to a piece.
func (r *round) putInline(next *contributor, p *piece) {
	s := r.s
	list := r.looseEntries()
	old, had := next.chunks[inlinePart]
	if len(list) == 0 && !had {
		return
	}
	var data []byte
	if len(list) > 0 {
		if data = encodeInline(list); had && bytes.Equal(data, old.data) {
			return
		}
	}
	c := chunk{seq: s.seq + 1, data: data}
	p.parts[partKey(next.group(), inlinePart)] = c.part()
	p.size += len(data) + 1
	next.inline = list
	if len(list) == 0 {
		delete(next.chunks, inlinePart)
		delete(next.head.chunks, inlinePart)
		return
	}
	next.chunks[inlinePart], next.head.chunks[inlinePart] = c, c.seq
}

// looseEntries returns the own series that are published without numbers.
func (r *round) looseEntries() (list []looseEntry) {
	r.s.eachWaiting(func(row *row) { // the former life of a series may not have a number yet
		if row.own == nil || !r.inline && row.fam.dying.Get(row.labels) == nil {
			return
		}
		if words := r.sample(row); words != nil {
			list = append(list, looseEntry{row.fam, row.labels, slices.Clone(words), row})
		}
	})
	slices.SortFunc(list, func(a, b looseEntry) int {
		return cmp.Or(strings.Compare(a.fam.schema, b.fam.schema), strings.Compare(a.labels, b.labels))
	})
	return list
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

func (s *Syncer) setSelf(c contributor) {
	old := s.self
	s.self, s.republish = c, false
	if old.raw == nil || old.head.number != c.head.number { // parts are shown elsewhere
		s.touch(&c)
	}
	for _, list := range []map[uint32]chunk{old.chunks, c.chunks} {
		for n := range list {
			if n != inlinePart && old.chunks[n].seq != c.chunks[n].seq {
				s.setChanged(&c, n)
			}
		}
	}
	s.mu.Lock()
	s.looseChanged = true // what had no number may have one now
	s.mu.Unlock()
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

// encode appends the words of this instance's series in a chunk, as of a version of the directory.
func (r *round) encode(b []byte, n uint32, version uint64) (data []byte, empty bool) {
	s := r.s
	s.mu.Lock()
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

// latest reports whether pages show the value of the instance with the last Set.
func (f *family) latest() bool {
	return f.def != nil && f.def.Mode == backend.Latest
}
