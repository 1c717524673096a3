package sparse

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// Keys that collide take few steps, and the map finds the same positions as probing.
func TestFinder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []int{1, 8, 1 << 10} {
		const n = 1 << 10
		var blocks [2]Block
		for i := range blocks {
			blocks[i] = View(make([]atomic.Uint64, Words(n, 0)), 8, 0, 0)
		}
		fast, slow := blocks[0].finder(), blocks[1].finder()
		slow.steps = n * n * 2 // it never stops probing
		begun := fast.steps
		var keys []uint32
		for i := range n + 1 { // one more than there is room for
			key := keyOf(int32(i*n+rnd.IntN(spread)), false)
			keys = append(keys, key)
			for _, k := range []uint32{key, keys[rnd.IntN(len(keys))]} {
				if a, b := fast.index(k), slow.index(k); a != b || a < 0 && i < n {
					t.Fatalf("spread %d: key %d of %d is at %d, with probing at %d", spread, k, i, a, b)
				}
			}
		}
		if used := begun - fast.steps; used > 34*n {
			t.Errorf("spread %d: %d steps for %d keys", spread, used, n)
		}
		for at := range n {
			if a, b := blocks[0].key(at), blocks[1].key(at); a != b {
				t.Fatalf("spread %d: position %d has key %d, with probing %d", spread, at, a, b)
			}
		}
	}
}
