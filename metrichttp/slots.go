package metrichttp

import (
	"context"
	"slices"
	"sync"
	"time"
)

// slots limits the scrapes in flight. A scrape that finds no slot waits for one, in turn. A client
// that does not read loses its slot, and its page, when another one waits for it. The zero value is
// ready to use.
type slots struct {
	mu      sync.Mutex
	taken   map[*sending]bool
	waiting []*ticket
}

// ticket is a scrape that waits for a slot.
type ticket struct {
	owner   *sending
	granted chan struct{} // closed when it has the slot
}

func (t *ticket) isGranted() bool {
	select {
	case <-t.granted:
		return true
	default:
		return false
	}
}

const (
	// stalled is how long a write must have been blocked for the slot to be taken away.
	stalled = 500 * time.Millisecond

	// waitersPerSlot limits how many scrapes wait: each costs little, but nothing is free.
	waitersPerSlot = 4
)

// take takes one of n slots for s. It waits for half of the time until ctx's deadline at most, so
// that some is left for the page, and returns false if there is none.
func (l *slots) take(ctx context.Context, n int, s *sending) bool {
	l.mu.Lock()
	if len(l.waiting) == 0 && len(l.taken) < n {
		l.give(s)
		l.mu.Unlock()
		return true
	}
	if len(l.waiting)/waitersPerSlot >= n {
		l.mu.Unlock()
		return false
	}
	t := &ticket{s, make(chan struct{})}
	l.waiting = append(l.waiting, t)
	l.grant(n)
	l.mu.Unlock()
	end, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(end)/2)
	defer cancel()
	ticks := time.NewTicker(stalled / 5)
	defer ticks.Stop()
	for {
		select {
		case <-t.granted:
			return true
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.waiting = slices.DeleteFunc(l.waiting, func(o *ticket) bool { return o == t })
			return t.isGranted() // in the meantime
		case <-ticks.C:
			l.mu.Lock()
			l.grant(n)
			l.mu.Unlock()
		}
	}
}

// give gives a slot to s. l.mu is held.
func (l *slots) give(s *sending) {
	if l.taken == nil {
		l.taken = make(map[*sending]bool)
	}
	l.taken[s] = true
}

// leave gives a slot back.
func (l *slots) leave(n int, s *sending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.taken, s)
	l.grant(n)
}

// grant gives slots to those who wait. l.mu is held.
func (l *slots) grant(n int) {
	for len(l.waiting) > 0 && (len(l.taken) < n || l.evict()) {
		t := l.waiting[0]
		l.waiting = slices.Delete(l.waiting, 0, 1)
		l.give(t.owner)
		close(t.granted)
	}
}

// evict takes its slot from the client that has not read for longest, of those that can be cut off,
// if there is one. l.mu is held.
func (l *slots) evict() bool {
	for s := l.longestBlocked(); s != nil; s = l.longestBlocked() {
		if s.cut() {
			delete(l.taken, s)
			return true
		}
	}
	return false
}

func (l *slots) longestBlocked() (worst *sending) {
	since := time.Now().Add(-stalled)
	for s := range l.taken {
		if at, blocked := s.blockedSince(); blocked && !at.After(since) {
			worst, since = s, at
		}
	}
	return worst
}
