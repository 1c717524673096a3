package textmap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// Texts are set, deleted and listed in random order, and compared with a map.
func TestMap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var m Map[int]
	model := make(map[string]int)
	for phase := range 8 {
		for range 20_000 {
			text := fmt.Sprint(rnd.IntN(10_000))
			if rnd.IntN(10) < 8-6*(phase%2) {
				v := rnd.Int()
				m.Set(text, v)
				model[text] = v
			} else {
				m.Delete(text)
				delete(model, text)
			}
			if text = fmt.Sprint(rnd.IntN(10_000)); m.Get(text) != model[text] || m.Len() != len(model) {
				t.Fatalf("%s is %d of %d, want %d of %d", text, m.Get(text), m.Len(), model[text], len(model))
			}
		}
		if all := maps.Collect(m.All()); !maps.Equal(all, model) {
			t.Fatalf("All yields %d texts, want %d", len(all), len(model))
		}
	}
}

// Parts of which little is left are replaced.
func TestMapShrinks(t *testing.T) {
	t.Parallel()
	const n = 100_000
	var m Map[int]
	for i := range n {
		m.Set(fmt.Sprint(i), i)
	}
	seen := 0
	for text := range m.All() { // while the map changes
		if seen++; m.Len() > n/100 {
			m.Delete(text)
		}
	}
	if seen != n || m.Len() != n/100 {
		t.Errorf("%d texts were seen, and %d are left; want %d and %d", seen, m.Len(), n, n/100)
	}
	for i := range m.parts {
		if p := &m.parts[i]; p.most > max(sparse, 4*len(p.m)+4) {
			t.Errorf("a part has %d texts and has room for %d", len(p.m), p.most)
		}
	}
	for text := range m.All() {
		m.Delete(text)
	}
	if m.parts != nil || m.Len() != 0 {
		t.Error("an empty map keeps memory")
	}
}
