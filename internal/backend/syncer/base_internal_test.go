package syncer

import (
	"testing"

	"github.com/gotheus/gotheus/store"
)

// foldsOf returns a base with instances from..to-1 folded, and then more.
func foldsOf(from, to uint64, more ...fold) *baseHead {
	h := &baseHead{version: to - 1 + uint64(len(more))}
	for id := from; id < to; id++ {
		h.folds = append(h.folds, fold{id, 1})
	}
	h.folds = append(h.folds, more...)
	h.folds = h.folds[max(0, len(h.folds)-maxFolds):]
	return h
}

// A base is recognised as an extension of another one, also when old folds are no longer listed.
func TestBases(t *testing.T) {
	t.Parallel()
	heads := make(map[string]seen)
	for id := uint64(2000); id < 2010; id++ { // are live again
		live := instanceHead{seq: 1}
		heads[livePfx+instanceName(id)] = seen{Head: store.Head{Value: live.encode()}}
	}
	many := func(from, to uint64) []fold { return foldsOf(from, to).folds }
	for i, c := range []struct {
		h, old            *baseHead
		continues, covers bool
	}{
		{foldsOf(1, 10), foldsOf(1, 10), true, true},
		{foldsOf(1, 11), foldsOf(1, 10), true, true},
		{foldsOf(1, 10), foldsOf(1, 11), false, false},
		{foldsOf(1, 1000), foldsOf(1, 900), true, true},
		{foldsOf(1, 1000), foldsOf(1, 1001), false, false},
		{foldsOf(1, 5000), foldsOf(1, 10), true, false},
		{foldsOf(1, 10, fold{2000, 2}), foldsOf(1, 10, fold{2000, 1}), false, true},
		{foldsOf(1, 10, fold{2000, 1}), foldsOf(1, 10, fold{2000, 2}), false, false},
		// After the store had gone back: the same number of folds, and the same last one.
		{foldsOf(1, 10, fold{50, 1}, fold{60, 1}), foldsOf(1, 10, fold{2000, 1}, fold{60, 1}), false, true},
		{foldsOf(1, 10, fold{50, 1}, fold{60, 1}), foldsOf(1, 10, fold{40, 1}, fold{60, 1}), false, false},
		{foldsOf(1, 10, fold{50, 1}, fold{60, 1}), foldsOf(1, 10, fold{60, 1}), false, true},
		// The same with more folds than are listed.
		{foldsOf(1, 1000, fold{50_000, 1}), foldsOf(1, 1000, fold{2000, 1}, fold{2001, 1}), false, true},
		{foldsOf(1, 1000, fold{50_000, 1}), foldsOf(1, 1000, fold{1999, 1}, fold{2001, 1}), false, false},
		{foldsOf(1, 1000, many(50_000, 50_100)...), foldsOf(1, 1000, fold{2001, 1}), false, true},
		{foldsOf(1, 1000, many(50_000, 50_300)...), foldsOf(1, 1000, many(60_000, 60_300)...), false, false},
		{foldsOf(1, 101, many(50_000, 50_200)...), foldsOf(1, 101, many(60_000, 60_412)...), false, false},
		{foldsOf(1, 101, many(50_000, 50_200)...), foldsOf(1, 101, append(many(60_000, 60_050), many(50_000, 50_200)...)...), false, false},
	} {
		c.h.version, c.old.version = max(c.h.version, 1), max(c.old.version, 1)
		if got := c.h.extends(c.old); got != c.continues {
			t.Errorf("%d: continues: %v", i, got)
		}
		if got := c.h.covers(c.old, heads); got != c.covers {
			t.Errorf("%d: covers: %v", i, got)
		}
	}
}

// A base stays if restoring another one would lose as many instances as a whole, or more.
func TestKeepsMore(t *testing.T) {
	t.Parallel()
	heads := make(map[string]seen)
	for id := uint64(2000); id < 2010; id++ {
		heads[livePfx+instanceName(id)], heads[deadPfx+instanceName(id+10)] = seen{}, seen{}
	}
	for i, c := range []struct {
		h, old *baseHead
		keeps  bool
	}{
		{foldsOf(1, 10), foldsOf(1, 10), false},
		{foldsOf(1, 10), foldsOf(1, 11), false},
		{foldsOf(1, 11), foldsOf(1, 10), true},
		{foldsOf(1, 10, fold{2015, 1}), foldsOf(1, 10), false}, // its head is still there
		{foldsOf(1, 10, fold{30, 1}), foldsOf(1, 10, fold{40, 1}), true},
		{foldsOf(1, 10, fold{30, 1}), foldsOf(1, 10, fold{40, 1}, fold{41, 1}), false},
		{foldsOf(1, 10, fold{30, 1}), foldsOf(1, 10, fold{2000, 2}, fold{2001, 2}), true},
	} {
		if got := c.h.keepsMore(c.old, heads); got != c.keeps {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// Who was folded with words that it does not remember subtracts rather more than less.
func TestWordsAt(t *testing.T) {
	t.Parallel()
	s := newSingle(nil, options{manual: true})
	for _, seq := range []uint64{25, 24, 50, 49} {
		s.past = append(s.past, orphan{head: instanceHead{seq: seq}, entries: []entry{{words: []uint64{seq}}}})
	}
	for seq, want := range map[uint64]uint64{24: 24, 25: 25, 26: 49, 41: 49, 49: 49, 50: 50, 51: 50, 1: 24} {
		list, err := s.wordsAt(t.Context(), seq, nil)
		if err != nil || len(list) != 1 || list[0].words[0] != want {
			t.Errorf("as of %d: %v, %v, not those of %d", seq, list, err, want)
		}
	}
	s.past = nil
	if list, err := s.wordsAt(t.Context(), 1, nil); len(list) > 0 || err != nil {
		t.Errorf("nothing is known: %v, %v", list, err)
	}
}
