package spread

import (
	"runtime"
	"sync"
	"testing"
)

func pinned() int {
	n := Place()
	Free()
	return n
}

// Goroutines that keep all processors busy are told apart by either way.
func TestPlace(t *testing.T) {
	for name, place := range map[string]func() int{"Place": pinned, "pooled": pooled} {
		t.Run(name, func(t *testing.T) {
			const goroutines = 8
			var mu sync.Mutex
			seen := make(map[int]bool)
			var wait sync.WaitGroup
			for range goroutines {
				wait.Go(func() {
					mine := make(map[int]bool)
					for range 10_000 {
						mine[place()] = true
					}
					mu.Lock()
					defer mu.Unlock()
					for n := range mine {
						seen[n] = true
					}
				})
			}
			wait.Wait()
			for n := range seen {
				if n < 0 || n >= len(places) {
					t.Errorf("place %d", n)
				}
			}
			if len(seen) == 0 || name == "Place" && len(seen) > 10*max(goroutines, runtime.GOMAXPROCS(0)) {
				t.Errorf("%d places", len(seen))
			}
			if n := testing.AllocsPerRun(1000, func() { place() }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func BenchmarkPlace(b *testing.B) {
	for range b.N {
		Place()
		Free()
	}
}

func BenchmarkPooled(b *testing.B) {
	for range b.N {
		pooled()
	}
}
