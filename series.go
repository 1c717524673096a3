package gotheus

import (
	"iter"
	"math"
	"sync/atomic"

	"github.com/gotheus/gotheus/internal/backend"
)

// How a series moves from one place to another, at any moment and without losing or doubling an update.
//
// An instrument holds pointers to its words. To move it, the new pointers are published first; then
// each old word is swapped for a seal, and what was in it is added to the new word. An update that
// was quicker than the swap is in what the swap returned. One that was slower finds the seal in the
// result of its own atomic operation, knows that it has not been counted, and goes to the new words.
// Nobody waits.
//
// Setting a gauge does not commute with that addition. A gauge is therefore sealed, carried over and
// only then published; an update that finds the seal waits for moveMu, that is, for the few
// instructions in between.
//
// A seal on words that did not move says that the series was deleted, by whichever process. The update
// brings it back, see escape.

// series is what all instruments have in common. There may be very many, and most stay where they were made: a series
// has nothing of its own but its row, and shares with others of its family what can be said of all these.
type series struct {
	spot atomic.Pointer[spot]

	// The label text, and the words that the series had first. It never changes once it has these: in the registry's own
	// heap, it is what pages go through.
	row backend.Series
}

// spot says where series count. It never changes: a series that moves gets another one, with the family's lock and the
// registry's moveMu held. Series that count in their first words, in one backend, have the same one, see family.spotOf.
type spot struct {
	fam     *family
	listed  bool          // it is one of the family's; otherwise it was deleted, or is still being made
	waiting bool          // for room in the backend
	refused bool          // the words are the overflow series', since home has no room for another one by its limit
	home    *binding      // whose words they are; nil: private ones, until home has room
	words   backend.Words // nil: those of the row

	exemplars *exemplars // nil: there are none so far
	stripes   stripes    // no words: there are none
}

func (s *series) base() *series { return s }

func (s *series) fam() *family { return s.spot.Load().fam }

// words returns where the series counts. The registry's moveMu is held, or it does not matter if it moves.
func (s *series) words() backend.Words {
	if words := s.spot.Load().words; words != nil {
		return words
	}
	return s.row.Words
}

// stored returns the label text of the series that s counts in. The registry's moveMu is held.
func (s *series) stored() string {
	if sp := s.spot.Load(); sp.refused {
		return sp.fam.overflowLabels()
	}
	return s.row.Labels
}

// private reports whether the words belong to this process alone, so that they must be carried along
// when the series moves; shared words stay behind with what is in them.
func (s *spot) private() bool { return s.home == nil || s.home.local || s.fam.def.Parts() }

// begins says of a series, which is being made, whose it is. f.mu is held.
func (f *family) begins(s *series, labels string) {
	if f.unmade == nil {
		f.unmade = &spot{fam: f}
	}
	s.row.Labels = labels
	s.spot.Store(f.unmade)
}

// put lets a series of f count in words, which are home's, and publishes them to its updates, see instrument.move. f.mu
// and the registry's moveMu are held.
func (f *family) put(m instrument, at spot, words, from backend.Words) {
	s := m.base()
	if s.row.Words == nil {
		s.row.Words = words // nobody else has the series so far
	}
	at.fam = f
	if &words[0] != &s.row.Words[0] {
		at.words = words
	}
	if own := f.stripesOf(words); own != nil {
		at.stripes = *own
	}
	s.spot.Store(f.spotOf(at))
	m.move(words, from)
}

// spotOf returns a spot that is equal to at: usually the one that it has returned before. f.mu is held.
func (f *family) spotOf(at spot) *spot {
	usual := at.listed && !at.waiting && !at.refused && at.home != nil && at.words == nil && at.stripes.words == nil
	if usual && f.usual != nil && f.usual.home == at.home {
		return f.usual
	}
	its := new(spot) // at itself would be allocated each time
	*its = at
	if usual {
		f.usual = its
	}
	return its
}

// wait notes whether a series waits for room in the backend. Its family's lock is held.
func (s *series) wait(waiting bool) {
	old := s.spot.Load()
	if old.waiting == waiting {
		return
	}
	old.fam.reg.moveMu.Lock()
	defer old.fam.reg.moveMu.Unlock()
	at := *s.spot.Load()
	at.waiting = waiting
	s.spot.Store(&at)
}

// instrument is implemented by *Counter, *Gauge, *Histogram and *Summary.
type instrument interface {
	base() *series
	// move publishes to as the instrument's words, which its spot has already, and, if from is not nil, seals from and
	// carries its contents over. The registry's moveMu is held.
	move(to, from backend.Words)
}

// all ranges over the family's series: those in its table, and those that were deleted and brought back by somebody
// who had kept them. f.mu is held.
func (f *family) all() iter.Seq[instrument] {
	return func(yield func(instrument) bool) {
		if !f.table.(lister).each(yield) {
			return
		}
		for _, m := range f.returned {
			if !yield(m) {
				return
			}
		}
	}
}

// lister is a table of whatever instrument.
type lister interface {
	// each yields all instruments, and reports whether it was not stopped.
	each(yield func(instrument) bool) bool
	// prune forgets the series that are no longer listed, and returns how many of these counted for the family's limit.
	prune() (counted int64)
}

// escape is called by an update that has found word sealed in the words that m still points to. If they
// have not moved meanwhile, the series was deleted: it comes back from zero, in the backend or, if that has
// no room, in private words.
func (s *series) escape(m instrument, word *atomic.Uint64) {
	f := s.fam()
	f.mu.Lock()
	defer f.unlock()
	// Another update may have brought it back while this one waited, and have been counted.
	f.reg.moveMu.Lock()
	deleted := false
	for _, b := range append(further(m), block{f.def, s.words()}) {
		for i := range b.words {
			deleted = deleted || &b.words[i] == word && b.family.SealedAt(b.words, i)
		}
	}
	f.reg.moveMu.Unlock()
	if deleted {
		f.place(m)
	}
}

// begin notes when a series began, which is now unless its words say so already: those of a backend that has had
// it for longer keep its start, through restarts of the program, until it is deleted.
func (f *family) begin(w backend.Words) {
	start := f.def.Start(w)
	if start == nil || start.Load() != 0 {
		return
	}
	if now := nanoseconds(f.reg.Now()); now > 0 {
		start.CompareAndSwap(0, uint64(now))
	}
}

// carryStart lets new words, unless they have a start, begin when those did that are left behind.
func (f *family) carryStart(to, from backend.Words) {
	if start := sealInt(f.def.Start(from)); start != 0 {
		f.def.Start(to).CompareAndSwap(0, start)
	}
}

// sealInt seals an integer word and returns what was in it.
func sealInt(w *atomic.Uint64) uint64 {
	if n := w.Swap(backend.SealedInt); n < backend.SealedInt {
		return n
	}
	return 0 // sealed before
}

// sealFloat seals a float word and returns what was in it.
func sealFloat(w *atomic.Uint64) float64 {
	if bits := w.Swap(backend.SealedFloat); bits != backend.SealedFloat {
		return math.Float64frombits(bits)
	}
	return 0
}

// addFloat adds v to a float word; false says that it is sealed.
func addFloat(w *atomic.Uint64, v float64) bool {
	for {
		old := w.Load()
		if old == backend.SealedFloat {
			return false
		}
		if w.CompareAndSwap(old, floatBits(math.Float64frombits(old)+v)) {
			return true
		}
	}
}

// floatBits makes all NaN alike, so that none is taken for a seal.
func floatBits(v float64) uint64 {
	if v != v {
		return 0x7ff8000000000001
	}
	return math.Float64bits(v)
}
