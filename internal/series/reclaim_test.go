package series

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	h, now := new(holds), time.Now()
	words := make(backend.Words, 3)
	a, b, both := []*atomic.Uint64{&words[0]}, []*atomic.Uint64{&words[1]}, []*atomic.Uint64{&words[0], &words[1]}
	check := func(what string, words []*atomic.Uint64, want bool) {
		t.Helper()
		if got := h.has(words); got != want {
			t.Errorf("%s: held %v", what, got)
		}
	}
	check("nothing was dropped", both, false)
	h.add(both)
	h.add(a)
	h.release(both)
	check("still referred to", a, true)
	check("collected", b, false)
	check("one of both", both, true)
	h.release(a)
	check("collected", both, false)
	h.keep(b, now.Add(time.Minute))
	h.keep(a, now.Add(time.Second))
	h.expire(now.Add(2 * time.Second))
	check("for a second", a, false)
	check("for a minute", b, true)
	h.expire(now.Add(2 * time.Minute))
	check("for a minute", b, false)
	if len(h.dropped)+len(h.revived) > 0 {
		t.Errorf("left: %v, %v", h.dropped, h.revived)
	}
}

// instrument is the simplest Instrument.
type instrument struct{ series Series }

func (m *instrument) Series() *Series          { return &m.series }
func (m *instrument) Exponents() *Exponents    { return nil }
func (m *instrument) Room() backend.Words      { return nil }
func (m *instrument) Move(to, _ backend.Words) {}

// The words of a dropped instrument are held as long as anything refers to it or, if it brings its
// series back, for a while.
func TestHeldUntilCollected(t *testing.T) {
	h := new(holds)
	words := make(backend.Words, 3)
	drop := func() (*instrument, *dropped) {
		m := new(instrument)
		m.series.Row.Words = words
		m.series.placement.Store(&Placement{backend: &Binding{holds: h}})
		return m, holdDropped(m)
	}
	first := []*atomic.Uint64{&words[0]}
	m, _ := drop()
	for range 3 {
		runtime.GC()
	}
	if !h.has(first) {
		t.Error("not held although it is still referred to")
	}
	runtime.KeepAlive(m)
	collect := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); h.has(first); runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatal("still held although nothing refers to it")
			}
			runtime.Gosched()
		}
	}
	collect()
	m, d := drop()
	d.revive()
	if h.dropped[first[0]] != 0 || !h.has(first) {
		t.Error("an instrument that is in use again holds its former words for ever, or not at all")
	}
	h.expire(time.Now().Add(2 * holdRevived))
	if h.has(first) {
		t.Error("held although the time has passed")
	}
	runtime.KeepAlive(m)
}
