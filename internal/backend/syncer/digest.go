package syncer

import (
	"math/bits"

	"github.com/gotheus/gotheus/internal/backend"
)

// look is what can be told of an own chunk of counters in less time than it takes to encode it: as they only grow, and their
// starts, too, until they are deleted, the sum is another one if anything has changed.
type digest struct {
	seq   uint64 // of the chunk that had been published
	lives uint64
	words [2]uint64 // 128 bits, so that it never wraps
}

// look looks at a chunk. The result is zero if there is something else in it than counters, or something was deleted.
func (s *Syncer) digest(n uint32, seq uint64) (l digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.chunks[n] {
		f, w := row.fam, row.own.words
		if f.adding != addCounters || row.own.deleting {
			return digest{}
		}
		ints, floats, start := w[backend.CounterInt].Load(), w[backend.CounterFloat].Load(), uint64(0)
		if ints >= backend.SealedInt || floats == backend.SealedFloat {
			return digest{}
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

func (l *digest) add(word uint64) {
	low, carry := bits.Add64(l.words[0], word, 0)
	l.words[0], l.words[1] = low, l.words[1]+carry
}
