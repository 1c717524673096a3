package series

import (
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/spread"
)

// Stripes are the words of a series that has several copies of them. An update uses the stripe of
// the processor that it runs on; if there are fewer stripes than processors, some share one. Each
// process starts at a different stripe, since processors are numbered from 0 in all of them.
type Stripes struct {
	Words backend.Words
	each  int // words from one stripe to the next
	n     uint
	first uint // the process's first stripe, less than n
}

// stripesOf returns the stripes in w, or nil if the family has none.
func (f *Family) stripesOf(w backend.Words) *Stripes {
	n := f.Def.Stripes
	if n == 0 {
		return nil
	}
	return &Stripes{Words: w, each: f.Def.StripeWords(), n: uint(n), first: firstStripe(f.Home.Current().Number, n)}
}

// firstStripe returns the stripe of the first processor of a process with this number. Processes
// with consecutive numbers begin at different ones of n stripes, and far apart, so that those with
// few processors each do not overlap. It does not depend on GOMAXPROCS, which may change.
func firstStripe(number, n int) uint {
	step := max(1, n*5/8) // near the golden ratio
	for !coprime(step, n) {
		step++
	}
	return uint(number%n*step%n+n) % uint(n)
}

func coprime(a, b int) bool {
	for b != 0 {
		a, b = b, a%b
	}
	return a == 1
}

// Offset returns the index in Words of the stripe that an update should use.
func (s *Stripes) Offset() int {
	i := s.first + uint(spread.Place())
	spread.Free()
	if i >= s.n {
		i %= s.n
	}
	return int(i) * s.each
}
