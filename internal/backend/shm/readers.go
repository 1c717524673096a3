//go:build linux && (386 || amd64 || arm.7 || arm64 || loong64 || mips64 || mips64le || ppc64 || ppc64le || riscv64 || s390x)

package shm

import "sync"

// readers knows which calls in progress began before a point in time. Such a call may still use
// records that were found before then.
type readers struct {
	mu     sync.Mutex
	now    uint64         // the present period
	active map[uint64]int // number of calls in progress that began in each period
}

// enter must be called before records are looked for, and leave when none of them is used any more.
func (r *readers) enter() (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	began := r.now
	if r.active == nil {
		r.active = make(map[uint64]int)
	}
	r.active[began]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.active[began]--; r.active[began] == 0 {
			delete(r.active, began)
		}
	}
}

// turn ends the present period and returns its number.
func (r *readers) turn() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	return r.now - 1
}

// left reports whether all calls that began in that period, or earlier, have ended.
func (r *readers) left(period uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for began := range r.active {
		if began <= period {
			return false
		}
	}
	return true
}
