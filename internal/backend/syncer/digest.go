package syncer

import (
	"math/bits"

	"github.com/gotheus/gotheus/internal/backend"
)

// digest summarises a chunk of counters in less time than encoding takes. Counters only grow, and
// starts do not change before a deletion, so the sums differ if any word has changed.
type digest struct {
	seq   uint64    // of the published chunk
	rows  uint64    // the versions that assigned their numbers
	words [2]uint64 // 128 bits, so that it never wraps
}

// digest returns the digest of a chunk. It is zero if the chunk has anything but counters, or
// deleted or sealed series.
func (s *Syncer) digest(n uint32, seq uint64) (l digest) {
	s.mu.LockLast()
	defer s.mu.Unlock()
	for _, row := range s.chunks[n] {
		f, w := row.fam, row.own.words
		if f.adding != addCounters || row.gone {
			return digest{}
		}
		ints, floats, start := w[backend.CounterInt].Load(), w[backend.CounterFloat].Load(), uint64(0)
		if ints >= backend.SealedInt || floats == backend.SealedFloat {
			return digest{}
		}
		if f.start >= 0 {
			start = w[f.start].Load()
		}
		l.rows += row.since + 1
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
