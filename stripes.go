package gotheus

import (
	"iter"
	"runtime"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/spread"
)

// stripes are the words of a series with CounterOptions.Stripes, as an update finds its own: those of the processor that it
// runs on, as far as there are as many. Each process begins with another one.
type stripes struct {
	words backend.Words
	each  int // words from one stripe to the next
	n     uint
	first uint // below n
}

// stripesOf returns nil for families without stripes.
func (f *family) stripesOf(w backend.Words) *stripes {
	n := f.def.Stripes
	if n == 0 {
		return nil
	}
	first := f.reg.current().number * runtime.GOMAXPROCS(0) % n
	return &stripes{words: w, each: f.def.StripeWords(), n: uint(n), first: uint(first)}
}

// at returns where in words an update finds its own.
func (s *stripes) at() int {
	i := s.first + uint(spread.Place())
	spread.Free()
	if i >= s.n {
		i %= s.n
	}
	return int(i) * s.each
}

// eachStripe ranges over stripes of two series of f side by side; without stripes, over the words as one.
func (f *family) eachStripe(to, from backend.Words) iter.Seq2[backend.Words, backend.Words] {
	return func(yield func(to, from backend.Words) bool) {
		each := f.def.StripeWords()
		for i := range max(f.def.Stripes, 1) {
			if !yield(to[i*each:], from[i*each:]) {
				return
			}
		}
	}
}
