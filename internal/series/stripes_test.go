package series

import "testing"

// Consecutive processes begin at different stripes, and a few of them far apart.
func TestFirstStripe(t *testing.T) {
	t.Parallel()
	for n := 2; n <= 64; n++ {
		seen := make(map[uint]bool)
		for number := range n {
			first := firstStripe(number, n)
			if first >= uint(n) || seen[first] {
				t.Fatalf("%d stripes: process %d begins at %d", n, number, first)
			}
			seen[first] = true
		}
		if n >= 4 && firstStripe(1, n) < 2 {
			t.Errorf("%d stripes: the first two processes overlap", n)
		}
		if firstStripe(n+1, n) != firstStripe(1, n) || firstStripe(-1, n) >= uint(n) {
			t.Errorf("%d stripes: wrong stripe of other numbers", n)
		}
	}
}
