package spread

import (
	"sync"
	"sync/atomic"
)

// pooled is a place by what package sync promises nothing about, but has always done: a pool keeps
// what was put back last for the processor that did.
func pooled() int {
	p := pool.Get().(*int)
	n := *p
	pool.Put(p)
	return n
}

var (
	places [256]int // what the pool holds, so that it allocates nothing
	taken  atomic.Uint32
	pool   = sync.Pool{New: func() any { return &places[(taken.Add(1)-1)%uint32(len(places))] }}
)

func init() {
	for i := range places {
		places[i] = i
	}
}
