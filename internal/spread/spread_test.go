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

// Both implementations tell goroutines apart that keep all processors busy.
func TestPlace(t *testing.T) {
	for name, place := range map[string]func() int{"Place": pinned, "pooled": pooled} {
		t.Run(name, func(t *testing.T) {
			const goroutines = 8
			var mu sync.Mutex
			distinct := make(map[int]bool)
			var wait sync.WaitGroup
			for range goroutines {
				wait.Go(func() {
					own := make(map[int]bool)
					for range 10_000 {
						own[place()] = true
					}
					mu.Lock()
					defer mu.Unlock()
					for n := range own {
						distinct[n] = true
					}
				})
			}
			wait.Wait()
			for n := range distinct {
				if n < 0 || n >= len(numbers) {
					t.Errorf("number %d", n)
				}
			}
			if len(distinct) == 0 || name == "Place" && len(distinct) > 10*max(goroutines, runtime.GOMAXPROCS(0)) {
				t.Errorf("%d numbers", len(distinct))
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
