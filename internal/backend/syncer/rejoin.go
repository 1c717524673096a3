package syncer

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/gotheus/gotheus/store"
)

// rejoin continues as a new instance after this one was folded with its words as of seq: it
// subtracts the folded words.
func (s *Syncer) rejoin(ctx context.Context, seq uint64, deadRaw []byte) error {
	counted, err := s.wordsAt(ctx, seq, deadRaw)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(counted, stretch) {
		s.mu.LockLast()
		for _, e := range some {
			o, f := e.row.own, e.row.fam
			switch {
			case o == nil || e.row.gone || f.parts:
			case f.shared:
				added := math.Float64frombits(e.words[gaugeAdded])
				o.gauge.added -= added
				o.gauge.published -= added
			default:
				f.def.Subtract(o.words, liveWords(e.words))
			}
		}
		s.mu.Unlock()
	}
	s.touch(&s.self)
	former := s.self.id
	s.newSelf()
	s.former = former
	return nil
}

// continueFormer adds to a commit by which this instance joins that it continues a folded one. If
// another process restores a base that does not have that one, it is in the store by itself again,
// and nobody may replace its words by later ones: these are now published by this instance.
func (s *Syncer) continueFormer(c *store.Commit) {
	name := deadPfx + instanceName(s.former)
	for _, heads := range []map[string]seen{s.found, s.foreign} {
		var h instanceHead
		dead, ok := heads[name]
		if ok && s.former != 0 && h.decode(dead.Value) == nil && !h.continued {
			h.continued = true
			c.If[name], c.Heads[name] = dead.Value, h.encode()
		}
	}
}

// wordsAt returns what this instance had published as of a seq. If it cannot know that, it returns
// rather more than less, so that nothing counts twice.
func (s *Syncer) wordsAt(ctx context.Context, seq uint64, deadRaw []byte) ([]entry, error) {
	known := make(map[uint64]func() []entry)
	for _, c := range slices.Concat(s.before, s.sent, []contributor{s.self}) {
		if c.raw != nil && len(c.chunks) == len(c.head.chunks) {
			known[c.head.seq] = func() []entry { return s.entries(&c) }
		}
	}
	for _, o := range s.past {
		known[o.head.seq] = func() []entry { return o.entries }
	}
	if entries := known[seq]; entries != nil {
		return entries(), nil
	}
	// The store has gone back to an older state.
	old := contributor{id: s.self.id, chunks: make(map[uint32]chunk)}
	if deadRaw != nil && old.head.decode(deadRaw) == nil && old.head.seq == seq {
		err := s.fetchAll(ctx, &old)
		if err == nil && len(old.damaged) == 0 {
			return s.entries(&old), nil
		}
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
	s.log("this process was taken for dead, and which of its counts were kept is not known exactly", errUnmet)
	seqs := slices.Sorted(maps.Keys(known))
	if len(seqs) == 0 {
		return nil, nil
	}
	later, _ := slices.BinarySearch(seqs, seq)
	return known[seqs[min(later, len(seqs)-1)]](), nil
}
