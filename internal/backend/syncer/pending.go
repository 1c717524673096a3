package syncer

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// Unpublished implements backend.Publisher: it compares the words of this process with those last
// acknowledged by the store. It never waits for the store.
func (s *Syncer) Unpublished() (words int, lag time.Duration) {
	stored := s.stored.Load()
	if stored == nil {
		stored = new(published)
	}
	known := stored.loose()
	s.eachWaiting(func(r *row) {
		if r.own != nil {
			words += r.differing(known[looseKey{r.fam, r.labels}])
		}
	})
	s.mu.LockLast()
	numbers := slices.Collect(maps.Keys(s.chunks))
	complete := s.complete
	s.mu.Unlock()
	var scratch []uint64
	for _, n := range numbers {
		var more int
		more, scratch = s.unpublishedIn(n, stored.chunks[n].data, scratch)
		words += more
	}
	if words > 0 {
		lag = max(0, s.now().Sub(complete))
	}
	return words, lag
}

// unpublishedIn returns how many words of a chunk differ from those in the store. It uses scratch,
// and returns it or a larger one.
func (s *Syncer) unpublishedIn(n uint32, stored []byte, scratch []uint64) (words int, _ []uint64) {
	s.mu.LockLast() // released between chunks, so that updates do not wait long
	defer s.mu.Unlock()
	r := newChunkReader(stored, n, scratch)
	more, err := r.read(&s.dir)
	for _, row := range s.chunks[n] {
		for more && err == nil && r.id < row.id {
			more, err = r.read(&s.dir)
		}
		var known []uint64
		if more && err == nil && r.id == row.id {
			known = r.words
		}
		words += row.differing(known)
	}
	return words, r.buf
}

// differing returns how many words of an own series differ from the known ones; words without a
// known value count as zero. s.mu is held.
func (r *row) differing(known []uint64) (n int) {
	f, o := r.fam, r.own
	if f.def.Sealed(o.words) && !f.exemplars {
		return 0
	}
	var few [32]uint64
	size := max(f.stored, len(o.words))
	words := slices.Grow(few[:0], size)[:size]
	switch {
	case f.shared:
		if wasSet(o.words) {
			return 1
		}
		words = words[:gaugeWords]
		added := o.gauge.sum(math.Float64frombits(o.words[backend.GaugeValue].Load()))
		if added-added != 0 { // not finite: as in sharedGauge.sample
			added = o.gauge.added
		}
		words[gaugeAdded] = math.Float64bits(added)
		words[gaugeBase], words[gaugeStamp] = math.Float64bits(o.gauge.base), o.gauge.stamp
	case f.latest():
		f.read(words, o.words)
		if words[backend.GaugeTicket] == o.ticket {
			words[backend.GaugeTicket] = o.stamp
		}
	default:
		f.read(words, o.words)
	}
	for i, v := range words {
		if i < len(known) && v != known[i] || i >= len(known) && v != 0 {
			n++
		}
	}
	return n
}
