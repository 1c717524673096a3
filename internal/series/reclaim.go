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
	if !ok {
		return false
	}
	r.Reclaim(func(list []backend.Retired) { h.release(b, list) })
	for _, f := range h.Families() {
		if f.someRefused.Load() {
			f.retryRefused(b)
		}
	}
	return true
}

// retriedAtOnce is how many series that count in the overflow series retryRefused tries to place.
const retriedAtOnce = 100

// retryRefused gives series that count in the overflow series words of their own, if there is room
// now. What they have counted so far stays in the overflow series.
func (f *Family) retryRefused(b *Binding) {
	refused := f.labels(func(s *Series) bool { return s.placement.Load().refused })
	if len(refused) == 0 {
		f.someRefused.Store(false)
	}
	for _, labels := range refused[:min(len(refused), retriedAtOnce)] {
		room := true
		f.mu.LockLast()
		f.eachOf(labels, func(m Instrument) { room = f.placeRefused(b, m) && room })
		f.refusedBy = nil // it was logged before
		f.unlock()
		if !room {
			return
		}
	}
}

// placeRefused reports whether m does not count in the overflow series any more. The caller holds
// the family's lock.
func (f *Family) placeRefused(b *Binding, m Instrument) bool {
	s := m.Series()
	at := s.placement.Load()
	if !at.refused || at.backend != b {
		return true
	}
	words, refused, err := f.cells(b, s.Row.Labels)
	if refused || err != nil {
		return false
	}
	f.setStart(words)
	f.Home.Moves.Lock()
	defer f.Home.Moves.Unlock()
	if f.Home.Current() == b {
		hold(m)
		f.put(m, Placement{listed: true, waiting: at.waiting, backend: b, life: noPlaces}, words, nil)
	}
	return true
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
		list[i].Held = b.holds.has(list[i].Words)
	}
}

func (f *Family) release(list []backend.Retired) {
	var refused []string // label texts of series that count in the overflow series
	if slices.ContainsFunc(list, func(r backend.Retired) bool { return r.Family.Name == f.Def.Name && r.Labels == f.overflow }) {
		refused = f.labels(func(s *Series) bool { return s.placement.Load().refused })
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	pause := f.pauses()
	for i := range list {
		r := &list[i]
		if r.Family.Name != f.Def.Name {
			continue
		}
		f.eachOf(r.Labels, func(m Instrument) { f.leave(m, r.Words) })
		pause()
		if r.Labels == f.overflow {
			for _, labels := range refused {
				f.eachOf(labels, func(m Instrument) { f.leave(m, r.Words) })
				pause()
			}
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
	if slices.ContainsFunc(wordsOf(m), func(w *atomic.Uint64) bool { return slices.Contains(words, w) }) {
		hold(m)
		at := *s.placement.Load()
		at.exemplars = nil
		s.placement.Store(&at)
		m.Move(s.Words(), nil)
	}
	f.Home.Moves.Unlock()
}

// wordsOf returns the first word of each block that m refers to: of its words, of further blocks,
// and of its exemplars. The caller holds the family's lock and Home.Moves.
func wordsOf(m Instrument) []*atomic.Uint64 {
	s := m.Series()
	list := []*atomic.Uint64{&s.Words()[0]}
	for _, b := range furtherBlocks(m) {
		list = append(list, &b.Words[0])
	}
	if x := s.placement.Load().exemplars; x != nil {
		for _, b := range x.slots {
			if b.Words != nil {
				list = append(list, &b.Words[0])
			}
		}
	}
	return list
}

// hold keeps the words of m, which is about to get others, for a while. The caller holds the
// family's lock and Home.Moves.
func hold(m Instrument) {
	if b := m.Series().placement.Load().backend; b != nil && b.holds != nil {
		b.holds.keep(wordsOf(m), time.Now().Add(holdRevived))
	}
}

// dropped are the words of an instrument that was dropped. They are held until nothing refers to it
// any more or, if it brings its series back, for a while.
type dropped struct {
	holds   *holds
	words   []*atomic.Uint64
	cleanup runtime.Cleanup
}

// holdDropped keeps the words of m, which is about to be dropped. The result is nil if there is no
// need. The caller holds the family's lock and Home.Moves.
func holdDropped(m Instrument) *dropped {
	b := m.Series().placement.Load().backend
	if b == nil || b.holds == nil {
		return nil
	}
	d := &dropped{holds: b.holds, words: wordsOf(m)}
	d.holds.add(d.words)
	d.cleanup = runtime.AddCleanup(m.Series(), d.holds.release, d.words)
	return d
}

// revive is called when the instrument brings its series back.
func (d *dropped) revive() {
	d.cleanup.Stop()
	d.holds.keep(d.words, time.Now().Add(holdRevived))
	d.holds.release(d.words)
}

// holds knows which words of deleted series updates in progress may still refer to. Each block is
// known by its first word.
type holds struct {
	mu      sync.Mutex
	dropped map[*atomic.Uint64]int       // number of dropped instruments that are not collected
	revived map[*atomic.Uint64]time.Time // until when
}

func (h *holds) add(words []*atomic.Uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped == nil {
		h.dropped = make(map[*atomic.Uint64]int)
	}
	for _, w := range words {
		h.dropped[w]++
	}
}

func (h *holds) release(words []*atomic.Uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range words {
		if h.dropped[w]--; h.dropped[w] == 0 {
			delete(h.dropped, w)
		}
	}
}

func (h *holds) keep(words []*atomic.Uint64, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revived == nil {
		h.revived = make(map[*atomic.Uint64]time.Time)
	}
	for _, w := range words {
		h.revived[w] = until
	}
}

func (h *holds) expire(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.revived, func(_ *atomic.Uint64, until time.Time) bool { return now.After(until) })
}

func (h *holds) has(words []*atomic.Uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(words, func(w *atomic.Uint64) bool {
		_, revived := h.revived[w]
		return revived || h.dropped[w] > 0
	})
}
