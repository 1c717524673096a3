// Package series manages the series of families in this process: it creates them, moves them
// between backends, deletes them and expires them.
//
// # How a series moves
// A series can move from one backend to another at any time, and no update is lost or counted
// twice. An instrument holds pointers to its words. To move it, the new pointers are published
// first. Then each old word is swapped for a seal, and its former value is added to the new word.
// An update before the swap is part of that value. An update after it sees the seal in the result
// of its own atomic operation, knows that it was not counted, and retries on the new words, which
// are published by then. No update waits. Setting a gauge does not commute with that addition. A
// gauge is therefore sealed and carried over before the new pointers are published; an update that
// finds the seal waits for the lock Home.Moves, that is, for the few instructions in between. A
// seal in words that have not moved means that this or another process has deleted the series. The
// update brings it back, see Escape.
package series

import (
	"slices"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Series is the part that all instruments have in common. There may be very many, and most never
// move: a series therefore has only its row, and shares its placement with others of its family.
type Series struct {
	placement atomic.Pointer[Placement]

	// Row holds the label text and the first words of the series. It does not change once these
	// are set: in the registry's own heap, pages walk it.
	Row backend.Series
}

// Placement says where series count. It is immutable: a series that moves gets another one, while
// the family's lock and Home.Moves are held. Series of a family that count in their first words, in
// the same backend, share one, see Family.share.
type Placement struct {
	family  *Family
	listed  bool          // false: it was deleted, or is still being made
	waiting bool          // for room in the backend
	refused bool          // by the backend's limit: it counts in the overflow series
	backend *Binding      // nil: the words are private until there is room
	words   backend.Words // nil: those of the row

	exemplars *exemplars // nil: no exemplar has been stored
	stripes   Stripes    // Words is nil if there are none
	dropped   *dropped   // nil: nothing is held

	// life has the first word of each place that the series has counted in since it came back
	// after a deletion, or was dropped. Nil: all places that it has ever had.
	life []*atomic.Uint64
}

// noPlaces is the life of a placement that begins one.
var noPlaces = []*atomic.Uint64{}

// Instrument is an instrument as this package sees it. Each has one series.
type Instrument interface {
	Series() *Series

	// Move publishes to as the instrument's words, which its placement refers to already. If
	// from is not nil, it seals from and carries its contents over. The caller holds
	// Home.Moves.
	Move(to, from backend.Words)

	// Exponents returns the part that counts in exponential buckets, or nil.
	Exponents() *Exponents

	// Room returns space for the words within the instrument itself, or nil.
	Room() backend.Words
}

// Family returns the family of s.
func (s *Series) Family() *Family { return s.placement.Load().family }

// Stripes returns the words of s, if its family has stripes.
func (s *Series) Stripes() *Stripes { return &s.placement.Load().stripes }

// Words returns the words that s counts in. The caller holds Home.Moves unless s may move
// meanwhile.
func (s *Series) Words() backend.Words {
	if words := s.placement.Load().words; words != nil {
		return words
	}
	return s.Row.Words
}

// storedLabels returns the label text under which the backend has the words of s: its own, or that
// of the overflow series. The caller holds Home.Moves.
func (s *Series) storedLabels() string {
	if p := s.placement.Load(); p.refused {
		return p.family.overflow
	}
	return s.Row.Labels
}

// isPrivate reports whether the words belong to this process alone, so that their contents must
// move with the series. The contents of shared words stay in the backend.
func (p *Placement) isPrivate() bool {
	return p.backend == nil || p.backend.Local || p.family.Def.Parts()
}

// initialize makes s, which is new, a series of f. The caller holds f.mu.
func (f *Family) initialize(s *Series, labels string) {
	if f.unplaced == nil {
		f.unplaced = &Placement{family: f}
	}
	s.Row.Labels = labels
	s.placement.Store(f.unplaced)
}

// put makes a series of f count in words, which belong to at.backend. It stores the placement
// before Instrument.Move seals the old words: a striped update that finds the seal looks there for
// the new ones. The caller holds f.mu and Home.Moves.
func (f *Family) put(m Instrument, at Placement, words, from backend.Words) {
	s := m.Series()
	if s.Row.Words == nil {
		s.Row.Words = words // no other goroutine has the series yet
	}
	at.family = f
	if &words[0] != &s.Row.Words[0] {
		at.words = words
	}
	if at.life != nil {
		at.life = append(slices.Clip(at.life), &words[0])
	}
	if own := f.stripesOf(words); own != nil {
		at.stripes = *own
	}
	s.placement.Store(f.share(at))
	m.Move(words, from)
}

// share returns a placement equal to at, usually the one that it has returned before. The caller
// holds f.mu.
func (f *Family) share(at Placement) *Placement {
	shareable := at.listed && !at.waiting && !at.refused && at.backend != nil && at.words == nil && at.stripes.Words == nil && at.life == nil
	if shareable && f.shared != nil && f.shared.backend == at.backend {
		return f.shared
	}
	own := new(Placement) // &at would make every call allocate
	*own = at
	if shareable {
		f.shared = own
	}
	return own
}

// setWaiting records whether a series waits for room in the backend. The caller holds its family's
// lock.
func (s *Series) setWaiting(waiting bool) {
	old := s.placement.Load()
	if old.waiting == waiting {
		return
	}
	moves := &old.family.Home.Moves
	moves.Lock()
	defer moves.Unlock()
	at := *s.placement.Load()
	at.waiting = waiting
	s.placement.Store(&at)
}

// Escape is called by an update that has found word sealed although m still points to it. Unless m
// has moved in the meantime, the series was deleted: Escape brings it back from zero, in the
// backend or, if that has no room, in private words. The update then retries.
func Escape(m Instrument, word *atomic.Uint64) {
	s := m.Series()
	f := s.Family()
	f.mu.Lock()
	defer f.unlock()
	// Another update may have brought the series back, and counted, while this one waited for
	// the lock.
	f.Home.Moves.Lock()
	deleted := false
	for _, b := range append(furtherBlocks(m), index.Block{Family: f.Def, Words: s.Words()}) {
		for i := range b.Words {
			deleted = deleted || &b.Words[i] == word && b.Family.SealedAt(b.Words, i)
		}
	}
	if deleted {
		hold(m)
	}
	f.Home.Moves.Unlock()
	if deleted {
		f.place(m)
	}
}

// Follow is called by an update of several words that has counted in one of those that begin with
// first, and then found another one sealed, or that m has moved. It returns the words where the
// update goes on. If the series was deleted, so was what the update has counted, and ok is false:
// the update is over, and does not bring the series back.
func Follow(m Instrument, first *atomic.Uint64) (words backend.Words, ok bool) {
	s := m.Series()
	moves := &s.Family().Home.Moves
	moves.Lock()
	defer moves.Unlock()
	at := s.placement.Load()
	words = s.Words()
	if &words[0] != first && at.life != nil && !slices.Contains(at.life, first) {
		return nil, false
	}
	return words, !s.deleted()
}

// deleted reports whether the series was deleted, or is being deleted. The caller holds Home.Moves.
func (s *Series) deleted() bool {
	def, words := s.Family().Def, s.Words()
	for i := range words {
		if def.SealedAt(words, i) {
			return true
		}
	}
	return false
}

// furtherBlocks returns the blocks of m besides its words. The caller holds Home.Moves.
func furtherBlocks(m Instrument) []index.Block {
	if e := m.Exponents(); e != nil && e.rest != nil {
		return e.rest.blocks
	}
	return nil
}
