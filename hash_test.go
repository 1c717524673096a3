package gotheus

import (
	"fmt"
	"strings"
	"testing"
)

// Values that differ in little have different hashes, spread over all slots of a table.
func TestHashValues(t *testing.T) {
	t.Parallel()
	seen := map[uint64]string{}
	const slots = 1 << 12
	var used [slots]bool
	add := func(values ...string) {
		h, key := hashValues(values), joinKey(values)
		if other, ok := seen[h]; ok && other != key {
			t.Errorf("%q and %q have the same hash", other, key)
		}
		seen[h] = key
		used[h>>1%slots] = true
	}
	for n := range 150 {
		for i := range max(n, 1) {
			s := []byte(strings.Repeat("x", n))
			add(string(s))
			for _, c := range "\x00yz\x7f" {
				if n > 0 {
					s[i] = byte(c)
					add(string(s))
					add("x", string(s))
					add(string(s), "x")
					add(string(s[:i]), string(s[i:]))
				}
			}
		}
	}
	for i := range 20000 {
		add("GET", fmt.Sprint("/api/v1/route/", i))
		add(fmt.Sprint(i), "200")
	}
	n := 0
	for _, u := range used {
		if u {
			n++
		}
	}
	if n < slots*95/100 {
		t.Errorf("%d hashes use %d of %d slots", len(seen), n, slots)
	}
}
