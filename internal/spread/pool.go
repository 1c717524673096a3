package spread

import (
	"sync"
	"sync/atomic"
)

// pooled gets a number from a sync.Pool. It relies on undocumented behaviour that has always held:
// a pool returns what was last put back on the same processor.
func pooled() int {
	p := pool.Get().(*int)
	n := *p
	pool.Put(p)
	return n
}

var (
	numbers [256]int // the pool's elements, so that it does not allocate
	taken   atomic.Uint32
	pool    = sync.Pool{New: func() any { return &numbers[(taken.Add(1)-1)%uint32(len(numbers))] }}
)

func init() {
	for i := range numbers {
		numbers[i] = i
	}
}
