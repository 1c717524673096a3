// Package periodic calls a function at intervals, without a goroutine in between.
package periodic

import (
	"context"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/retry"
)

// minInterval keeps a tiny interval from occupying a processor.
const minInterval = time.Millisecond

// Timer calls a function at intervals, one call at a time. The zero value is ready to use.
type Timer struct {
	mu        sync.Mutex
	timer     *time.Timer // nil: stopped
	every     time.Duration
	cancel    context.CancelFunc // of the call in progress
	inCall    bool
	restarted bool // started again during the call in progress
	callNow   bool // and must be called at once

	calling sync.Mutex // held during a call
}

// Call is the function that a Timer calls. It returns whether to call it again.
type Call func(context.Context) (again bool)

// Start calls f at intervals of every, first after one interval. The context of each call ends
// after limit. If the timer is running already, it keeps its function, and its interval unless
// every is shorter.
func (t *Timer) Start(every, limit time.Duration, f Call) {
	every = max(every, minInterval)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restarted = true
	switch {
	case t.timer == nil:
		t.start(every, every, limit, f)
	case every < t.every:
		t.every = every
		t.timer.Reset(every)
	}
}

// StartNow starts the timer as Start does, with a first call at once. If the timer is running
// already, it makes the next call at once.
func (t *Timer) StartNow(every, limit time.Duration, f Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timer == nil:
		t.start(0, max(every, minInterval), limit, f)
	case t.inCall:
		t.callNow = true
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
	t.cancel, t.inCall, t.restarted, t.callNow = cancel, timer != nil, false, false
	t.mu.Unlock()
	if timer == nil {
		return
	}
	again := f(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inCall = false
	switch {
	case t.timer != timer: // stopped, or stopped and started again, during the call
	case t.callNow: // f may not have known what it is to be called for
		t.timer.Reset(0)
	case again, t.restarted:
		t.timer.Reset(t.every)
	default:
		t.timer = nil
	}
}

// Stop stops the timer and cancels the context of a call in progress. It waits for that call until
// ctx ends.
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
