// Package periodic calls a function at intervals, with no goroutine between calls.
package periodic

import (
	"context"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/retry"
)

// minInterval keeps a tiny interval from using up a processor.
const minInterval = time.Millisecond

// Timer calls a function at intervals. Calls never overlap. The zero value is ready.
type Timer struct {
	mu     sync.Mutex
	timer  *time.Timer // nil: stopped
	every  time.Duration
	cancel context.CancelFunc // of the call in progress

	calling sync.Mutex // held during a call
}

// Call is the type of a Timer's function. It returns whether to call it again.
type Call func(context.Context) (again bool)

// Start calls f at the interval every, or more often. The context of each call ends after limit. If
// the timer is already running, only a shorter interval has an effect.
func (t *Timer) Start(every, limit time.Duration, f Call) {
	every = max(every, minInterval)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timer == nil:
		t.start(every, every, limit, f)
	case every < t.every:
		t.every = every
		t.timer.Reset(every)
	}
}

// StartNow starts the timer with a call at once. If it is already running, it only calls at once.
func (t *Timer) StartNow(every, limit time.Duration, f Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		t.start(0, max(every, minInterval), limit, f)
	} else {
		t.timer.Reset(0)
	}
}

func (t *Timer) start(first, every, limit time.Duration, f Call) {
	t.every = every
	t.timer = time.AfterFunc(first, func() { t.call(limit, f) })
}

func (t *Timer) call(limit time.Duration, f Call) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	t.calling.Lock()
	defer t.calling.Unlock()
	t.mu.Lock()
	timer := t.timer
	t.cancel = cancel
	t.mu.Unlock()
	if timer == nil {
		return
	}
	again := f(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.timer != timer: // stopped or restarted meanwhile
	case again:
		t.timer.Reset(t.every)
	default:
		t.timer = nil
	}
}

// Stop stops the timer, cancels the context of a call in progress, and waits for the call until ctx
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
