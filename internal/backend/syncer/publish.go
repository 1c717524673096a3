package syncer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/store"
)

// publish returns when the store has everything that was counted before the call.
func (s *Syncer) publish(ctx context.Context) error {
	var err error
	for attempt := range rounds {
		begun := s.now()
		if err = s.publishOnce(ctx, attempt); err == nil {
			s.mu.LockLast()
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
	s.mu.LockLast()
	busy := attempt > 1 || attempt > 0 && first // others change the directory all the time
	r.inline = (s.leaving || busy) && s.waiting.n <= inlineLimit && s.waiting.size <= pieceSize
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
	s.mu.LockLast()
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
	s.mu.LockLast()
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
		s.mu.LockLast()
		s.stamping = append(kept, s.stamping[len(list):]...)
		s.mu.Unlock()
	}
	return any
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
	s.mu.LockLast()
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

// latest reports whether pages show the value of the instance with the last Set.
func (f *family) latest() bool {
	return f.def != nil && f.def.Mode == backend.Latest
}
