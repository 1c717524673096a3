package backend_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gotheus/gotheus/internal/backend"
)

// Adding parts at once gives the same list as adding one after the other, in the order of numbers.
func TestPartsAdd(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var one, many backend.Parts
		for range 4 {
			var list []backend.Part
			for range rnd.IntN(20) {
				list = append(list, backend.Part{Words: make(backend.Words, 1), Instance: &backend.Instance{Number: rnd.IntN(15) - 1}})
			}
			for _, p := range list {
				one.Add(p)
			}
			many.Add(list...)
		}
		same := func(a, b backend.Part) bool { return a.Instance == b.Instance && &a.Words[0] == &b.Words[0] }
		number := func(a, b backend.Part) int { return a.Instance.Number - b.Instance.Number }
		if !slices.EqualFunc(one.List(), many.List(), same) || !slices.IsSortedFunc(one.List(), number) {
			t.Fatalf("%v, at once %v", one.List(), many.List())
		}
	}
}
