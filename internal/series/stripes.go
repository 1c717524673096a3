package series

import (
	"runtime"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/spread"
)

// Stripes are the words of a series that has several copies of them. An update uses the stripe of
// the processor it runs on; with fewer stripes than processors, several share one. The processes
// start at different stripes.
type Stripes struct {
	Words backend.Words
	each  int // words from one stripe to the next
	n     uint
	first uint // below n
}

// stripesOf returns the stripes in w; nil if the family has none.
func (f *Family) stripesOf(w backend.Words) *Stripes {
	n := f.Def.Stripes
	if n == 0 {
		return nil
	}
	first := f.Home.Current().Number * runtime.GOMAXPROCS(0) % n
	return &Stripes{Words: w, each: f.Def.StripeWords(), n: uint(n), first: uint(first)}
}

// Offset returns where in Words the stripe of this update begins.
func (s *Stripes) Offset() int {
	i := s.first + uint(spread.Place())
	spread.Free()
	if i >= s.n {
		i %= s.n
	}
	return int(i) * s.each
}
