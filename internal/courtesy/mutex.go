// Package courtesy has a mutex for long work that is done in many short stretches, while others
// need what it guards for moments.
//
// After a plain Unlock, a loop gets the lock again before a goroutine that has waited for it has
// woken up. If there are no idle processors, that can go on for as long as the loop does not block.
package courtesy

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Mutex is a mutual exclusion lock. The zero value is unlocked. It must not be copied.
type Mutex struct {
	mutex   sync.Mutex
	waiting atomic.Int32 // calls of Lock that are waiting
}

// Lock locks m for a moment.
func (m *Mutex) Lock() {
	if m.mutex.TryLock() {
		return
	}
	m.waiting.Add(1)
	m.mutex.Lock()
	m.waiting.Add(-1)
}

// Unlock unlocks m.
func (m *Mutex) Unlock() { m.mutex.Unlock() }

// mostYields is a limit for what LockLast waits: others may call Lock all the time.
const mostYields = 10

// LockLast locks m for a stretch of long work, after those that are waiting in Lock. Without
// them, it costs the same as Lock.
func (m *Mutex) LockLast() {
	for n := 0; m.waiting.Load() > 0 && n < mostYields; n++ {
		// The goroutine that Unlock has woken is the next to run on this processor.
		runtime.Gosched()
	}
	m.mutex.Lock()
}
