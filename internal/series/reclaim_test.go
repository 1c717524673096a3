package series

import (
	"runtime"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

var reclaimable = &backend.Family{Name: "requests_total", Help: "Requests.", Kind: backend.Counter, Labels: []string{"x"}}

func TestHolds(t *testing.T) {
	t.Parallel()
	h, now := new(holds), time.Now()
	check := func(key string, want bool) {
		t.Helper()
		if got := h.has(key); got != want {
			t.Errorf("%s: held %v", key, got)
		}
	}
	check("a", false)
	h.add("a")
	h.add("a")
	h.keep("b", now.Add(time.Minute))
	h.keep("a", now.Add(time.Second))
	h.release("a")
	check("a", true)
	h.release("a")
	check("a", true) // it was brought back
	h.expire(now.Add(2 * time.Second))
	check("a", false)
	check("b", true)
	h.expire(now.Add(2 * time.Minute))
	check("b", false)
	if len(h.dropped)+len(h.revived) > 0 {
		t.Errorf("left: %v, %v", h.dropped, h.revived)
	}
}

// A dropped series is held as long as anything refers to its instrument.
func TestHeldUntilCollected(t *testing.T) {
	h := new(holds)
	f, s := &Family{Def: reclaimable}, &Series{}
	s.Row.Labels = `x="1"`
	f.holdDropped(s, &Binding{holds: h})
	for range 3 {
		runtime.GC()
	}
	if !h.has(keyOf(reclaimable, `x="1"`)) {
		t.Error("not held although it is still referred to")
	}
	runtime.KeepAlive(s)
	for deadline := time.Now().Add(time.Minute); h.has(keyOf(reclaimable, `x="1"`)); runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("still held although nothing refers to it")
		}
		runtime.Gosched()
	}
}
