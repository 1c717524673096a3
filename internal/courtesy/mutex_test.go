package courtesy

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Counting with both ways of locking loses nothing.
func TestExclusive(t *testing.T) {
	t.Parallel()
	const goroutines, times = 4, 2000
	var m Mutex
	var wg sync.WaitGroup
	n := 0
	for i := range goroutines {
		wg.Go(func() {
			for range times {
				if i%2 == 0 {
					m.Lock()
				} else {
					m.LockLast()
				}
				n++
				m.Unlock()
			}
		})
	}
	wg.Wait()
	if n != goroutines*times || m.waiting.Load() != 0 {
		t.Errorf("%d, and %d are waiting", n, m.waiting.Load())
	}
}

// Work that takes the lock again and again lets others have it, even on one processor, where they
// otherwise wait until the scheduler interrupts that work.
func BenchmarkWait(b *testing.B) {
	for name, again := range map[string]func(*Mutex){"Lock": (*Mutex).Lock, "LockLast": (*Mutex).LockLast} {
		b.Run(name, func(b *testing.B) {
			var m Mutex
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() {
				for !stop.Load() {
					again(&m)
					for range 10_000 { // some microseconds
						stop.Load()
					}
					m.Unlock()
				}
			})
			longest, n := time.Duration(0), 0
			for b.Loop() {
				begun := time.Now()
				m.Lock()
				n++
				m.Unlock()
				longest = max(longest, time.Since(begun))
			}
			stop.Store(true)
			wg.Wait()
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
		})
	}
}
