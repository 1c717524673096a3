package series

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
)

// A backend.Reclaimer uses the words of deleted series for other series. By then, no update may be
// in progress on them. An update loads a pointer to a word and then changes the word; in between,
// its goroutine may be suspended for any time. But until an update has seen that the word was not
// sealed, it needs its instrument, too: once the garbage collector has found that nothing refers to
// a dropped instrument, no update of it is in progress. Until then, its series is held.
//
// An instrument that the program has kept, and that brings its series back, is not dropped: its
// former words are held for holdRevived.

const (
	reclaimInterval = time.Second

	// holdRevived is longer than any update takes, even if its goroutine is suspended.
	holdRevived = 10 * time.Minute
)

// StartReclaiming starts the timer that lets the backend in use reclaim space.
func (h *Home) StartReclaiming() {
	if _, ok := h.Current().Backend.(backend.Reclaimer); !ok {
		return
	}
	h.reclaim.Start(reclaimInterval, Timeout, func(context.Context) bool { return h.Reclaim() })
}

// Reclaim lets the backend in use reclaim space. It reports whether the backend does that at all.
func (h *Home) Reclaim() bool {
	b := h.Current()
	r, ok := b.Backend.(backend.Reclaimer)
	if ok {
		r.Reclaim(func(list []backend.Retired) { h.release(b, list) })
	}
	return ok
}

// Enter must be called before b.Walk, and leave when its result is not used any more.
func (b *Binding) Enter() (leave func()) {
	if r, ok := b.Backend.(backend.Reclaimer); ok {
		return r.Enter()
	}
	return func() {}
}

// release drops what refers to deleted series, and marks those that updates in progress may still
// refer to.
func (h *Home) release(b *Binding, list []backend.Retired) {
	for _, f := range h.Families() {
		f.release(list)
	}
	b.holds.expire(time.Now())
	for i := range list {
		list[i].Held = b.holds.has(keyOf(list[i].Family, list[i].Labels))
	}
}

func (f *Family) release(list []backend.Retired) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	for i := range list {
		if r := &list[i]; r.Family.Name == f.Def.Name {
			f.eachOf(r.Labels, func(m Instrument) { f.leave(m, r.Words) })
			pause()
		}
	}
}

// leave makes m stop referring to these words. The caller holds the family's lock.
func (f *Family) leave(m Instrument, words []*atomic.Uint64) {
	s := m.Series()
	f.Home.Moves.Lock()
	if slices.Contains(words, &s.Words()[0]) {
		f.Def.Seal(s.Words()) // a collector may have written to them again
	}
	f.Home.Moves.Unlock()
	if !f.dropIfDeleted(m) {
		f.leaveBlocks(m, words)
	}
}

// leaveBlocks makes m, whose series exists, leave blocks and exemplars that were deleted. The
// caller holds the family's lock.
func (f *Family) leaveBlocks(m Instrument, words []*atomic.Uint64) {
	s := m.Series()
	f.Home.Moves.Lock()
	at, some := *s.placement.Load(), false
	for _, b := range furtherBlocks(m) {
		some = some || slices.Contains(words, &b.Words[0])
	}
	if at.exemplars != nil {
		for _, b := range at.exemplars.slots {
			if b.Words != nil && slices.Contains(words, &b.Words[0]) {
				some = true
			}
		}
	}
	if some {
		f.hold(s)
		at.exemplars = nil
		s.placement.Store(&at)
		m.Move(s.Words(), nil)
	}
	f.Home.Moves.Unlock()
}

// hold keeps the words that s has had in a backend, although s goes on. The caller holds the
// family's lock.
func (f *Family) hold(s *Series) {
	if b := s.placement.Load().backend; b != nil && b.holds != nil {
		b.holds.keep(keyOf(f.Def, s.Row.Labels), time.Now().Add(holdRevived))
	}
}

// holdDropped keeps the words that s, which is being dropped, has had in b until nothing refers to
// s any more.
func (f *Family) holdDropped(s *Series, b *Binding) {
	if b != nil && b.holds != nil {
		key := keyOf(f.Def, s.Row.Labels)
		b.holds.add(key)
		runtime.AddCleanup(s, b.holds.release, key)
	}
}

// keyOf identifies a series with its further blocks and its exemplars.
func keyOf(f *backend.Family, labels string) string { return f.Name + "{" + labels }

// holds knows which deleted series updates in progress may still refer to.
type holds struct {
	mu      sync.Mutex
	dropped map[string]int       // number of dropped instruments that are not collected yet
	revived map[string]time.Time // until when
}

func (h *holds) add(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped == nil {
		h.dropped = make(map[string]int)
	}
	h.dropped[key]++
}

func (h *holds) release(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped[key]--; h.dropped[key] == 0 {
		delete(h.dropped, key)
	}
}

func (h *holds) keep(key string, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revived == nil {
		h.revived = make(map[string]time.Time)
	}
	h.revived[key] = until
}

func (h *holds) expire(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.revived, func(_ string, until time.Time) bool { return now.After(until) })
}

func (h *holds) has(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, revived := h.revived[key]
	return revived || h.dropped[key] > 0
}
