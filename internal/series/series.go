// Package series manages the series of families in this process: it creates them, moves them
// between backends, deletes them and lets them expire.
//
// # How a series moves
//
// A series can move from one backend to another at any moment, without losing or doubling an
// update.
//
// An instrument holds pointers to its words. To move it, the new pointers are published first. Then
// each old word is swapped for a seal, and its contents are added to the new word. An update before
// the swap is in the value that the swap returned. A later one finds the seal in the result of its
// own atomic operation, knows that it has not counted, and goes to the new words. No update waits.
//
// Setting a gauge does not commute with that addition. A gauge is therefore sealed, carried over
// and only then published; an update that finds the seal waits for the lock Home.Moves, that is,
// for the few instructions in between.
//
// A seal on words that did not move means that the series was deleted, by whichever process. The
// update brings it back, see Escape.
package series

import (
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/index"
)

// Series is the part that all instruments have in common. There may be very many, and most stay
// where they were created: a series has only its row for itself, and shares its placement with
// others of its family.
type Series struct {
	placement atomic.Pointer[Placement]

	// Row has the label text and the first words of the series. It never changes once these are
	// set: in the registry's own heap, pages walk it.
	Row backend.Series
}

// Placement says where series count. It is immutable: a series that moves gets another one, while
// the family's lock and Home.Moves are held. Series that count in their first words, in one
// backend, share one, see Family.share.
type Placement struct {
	family  *Family
	listed  bool          // not deleted, and not still being created
	waiting bool          // for room in the backend
	refused bool          // at the backend's limit: the words are the overflow series'
	backend *Binding      // that the words are in; nil: they are private
	words   backend.Words // nil: those of the row

	exemplars *exemplars // nil: there are none yet
	stripes   Stripes    // without words: there are none
}

// Instrument is an instrument as this package sees it. Each has a series.
type Instrument interface {
	Series() *Series

	// Move publishes to, which is already in the placement, as the instrument's words. If from
	// is not nil, it seals from and carries its contents over. Home.Moves is held.
	Move(to, from backend.Words)

	// Exponents returns the part that counts in exponential buckets; nil: there is none.
	Exponents() *Exponents

	// Room returns space for the words in the instrument itself; nil: there is none.
	Room() backend.Words
}

// Family returns the family of s.
func (s *Series) Family() *Family { return s.placement.Load().family }

// Stripes returns the words of s, if its family has stripes.
func (s *Series) Stripes() *Stripes { return &s.placement.Load().stripes }

// Words returns the words that s counts in. Home.Moves is held, or it does not matter if s moves.
func (s *Series) Words() backend.Words {
	if words := s.placement.Load().words; words != nil {
		return words
	}
	return s.Row.Words
}

// storedLabels returns the label text of the series that s counts in. Home.Moves is held.
func (s *Series) storedLabels() string {
	if p := s.placement.Load(); p.refused {
		return p.family.overflowLabels()
	}
	return s.Row.Labels
}

// isPrivate reports whether the words belong to this process alone, so that their contents move
// with the series. The contents of shared words stay in the backend.
func (p *Placement) isPrivate() bool {
	return p.backend == nil || p.backend.Local || p.family.Def.Parts()
}

// initialize makes a new series one of f's. f.mu is held.
func (f *Family) initialize(s *Series, labels string) {
	if f.unplaced == nil {
		f.unplaced = &Placement{family: f}
	}
	s.Row.Labels = labels
	s.placement.Store(f.unplaced)
}

// put makes a series count in words, which belong to at.backend, and publishes them to updates, see
// Instrument.Move. f.mu and Home.Moves are held.
func (f *Family) put(m Instrument, at Placement, words, from backend.Words) {
	s := m.Series()
	if s.Row.Words == nil {
		s.Row.Words = words // the series is not shared yet
	}
	at.family = f
	if &words[0] != &s.Row.Words[0] {
		at.words = words
	}
	if own := f.stripesOf(words); own != nil {
		at.stripes = *own
	}
	s.placement.Store(f.share(at))
	m.Move(words, from)
}

// share returns a placement equal to at, usually one that other series have. f.mu is held.
func (f *Family) share(at Placement) *Placement {
	usual := at.listed && !at.waiting && !at.refused && at.backend != nil && at.words == nil && at.stripes.Words == nil
	if usual && f.usual != nil && f.usual.backend == at.backend {
		return f.usual
	}
	own := new(Placement) // returning &at would always allocate it
	*own = at
	if usual {
		f.usual = own
	}
	return own
}

// setWaiting records whether a series waits for room in the backend. Its family's lock is held.
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

// Escape is called by an update that has found word, which m pointed to, sealed. Unless m has moved
// meanwhile, the series was deleted: it comes back from zero, in the backend or, if that has no
// room, in private words.
func Escape(m Instrument, word *atomic.Uint64) {
	s := m.Series()
	f := s.Family()
	f.mu.Lock()
	defer f.unlock()
	// Another update may have brought the series back while this one waited for the lock.
	f.Home.Moves.Lock()
	deleted := false
	for _, b := range append(furtherBlocks(m), index.Block{Family: f.Def, Words: s.Words()}) {
		for i := range b.Words {
			deleted = deleted || &b.Words[i] == word && b.Family.SealedAt(b.Words, i)
		}
	}
	f.Home.Moves.Unlock()
	if deleted {
		f.place(m)
	}
}

// furtherBlocks returns the blocks of m besides its words. Home.Moves is held.
func furtherBlocks(m Instrument) []index.Block {
	if e := m.Exponents(); e != nil && e.rest != nil {
		return e.rest.blocks
	}
	return nil
}
