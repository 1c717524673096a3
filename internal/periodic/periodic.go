// Package periodic calls a function from time to time without a goroutine in between.
package periodic

import (
	"context"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/retry"
)

// minInterval keeps a tiny interval from using up a processor.
const minInterval = time.Millisecond

// Timer calls a function from time to time, never twice at once. The zero value is ready.
type Timer struct {
	mu     sync.Mutex
	timer  *time.Timer // nil: stopped
	every  time.Duration
	cancel context.CancelFunc // of the call in progress
	inCall bool
	kept   bool // started again during the call in progress
	now    bool // and is to be called at once

	calling sync.Mutex // held during a call
}

// Call is what a Timer calls. It returns whether it wants to be called again.
type Call func(context.Context) (again bool)

// Start has f called at least that often from now on. Each call has a context that ends after
// limit. If the timer runs already, only a shorter interval makes a difference.
func (t *Timer) Start(every, limit time.Duration, f Call) {
	every = max(every, minInterval)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = true
	switch {
	case t.timer == nil:
		t.start(every, every, limit, f)
	case every < t.every:
		t.every = every
		t.timer.Reset(every)
	}
}

// StartNow is Start with a first, or a further, call at once.
func (t *Timer) StartNow(every, limit time.Duration, f Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timer == nil:
		t.start(0, max(every, minInterval), limit, f)
	case t.inCall:
		t.now = true
	default:
		t.timer.Reset(0)
	}
}

func (t *Timer) start(first, every, limit time.Duration, f Call) {
	t.every = every
	t.timer = time.AfterFunc(first, func() { t.call(limit, f) })
}

func (t *Timer) call(limit time.Duration, f Call) {
	t.calling.Lock()
	defer t.calling.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	t.mu.Lock()
	timer := t.timer
	t.cancel, t.inCall, t.kept, t.now = cancel, timer != nil, false, false
	t.mu.Unlock()
	if timer == nil {
		return
	}
	again := f(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inCall = false
	switch {
	case t.timer != timer: // stopped, or started again, meanwhile
	case t.now: // f may not have known what it is to be called for
		t.timer.Reset(0)
	case again, t.kept:
		t.timer.Reset(t.every)
	default:
		t.timer = nil
	}
}

// Stop ends the calls, cancels the context of the one in progress, and waits for its end until ctx
// ends.
func (t *Timer) Stop(ctx context.Context) {
	t.mu.Lock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if t.cancel != nil {
		t.cancel()
	}
	t.mu.Unlock()
	if retry.Lock(ctx, t.calling.TryLock) == nil {
		t.calling.Unlock()
	}
}
