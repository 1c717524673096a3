package lookup

import (
	"sync"
	"testing"
)

// A memo returns entries of the present age only, also after it has grown, until it is emptied.
func TestMemo(t *testing.T) {
	t.Parallel()
	type key struct{ method, path string }
	var memo Memo[key, int]
	var lock sync.Mutex
	const n = 100
	values := make([]int, n)
	at := func(i int) key { return key{"GET", string(rune('a' + i))} }
	if memo.Find(at(0), 0) != nil {
		t.Error("an empty memo finds an instrument")
	}
	for i := range n {
		memo.Add(at(i), &values[i], 0)
	}
	for i := range n {
		if memo.Find(at(i), 0) != &values[i] {
			t.Fatalf("instrument %d is not found among %d", i, n)
		}
	}
	if memo.Find(at(3), 1) != nil {
		t.Error("an instrument of an earlier age is found")
	}
	memo.Add(at(3), &values[4], 1)
	if memo.Find(at(3), 1) != &values[4] || memo.Len() != n {
		t.Errorf("the entry was not replaced: %d entries, want %d", memo.Len(), n)
	}
	if memo.Forget(&lock, 0) {
		t.Error("the memo was emptied although no series were deleted")
	}
	if !memo.Forget(&lock, 1) || memo.Len() != 0 || memo.Find(at(3), 1) != nil {
		t.Error("the memo was not emptied after series were deleted")
	}
	memo.Add(at(3), &values[3], 1)
	if memo.Find(at(3), 1) != &values[3] {
		t.Error("an instrument added after Forget is not found")
	}
}
