// Package retry tries functions again until they succeed, and locks until a context ends.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Queue tries functions again until they succeed, in a goroutine that exists only while there are
// any. The zero value is ready.
type Queue struct {
	trying  sync.Mutex // held while functions run: what is being tried is not in the queue
	mu      sync.Mutex
	queue   []func(context.Context) error
	running bool               // one is not in the queue, since it runs
	last    error              // of the last failure
	stop    context.CancelFunc // of the goroutine; nil: none is running
	cut     context.CancelFunc // of the round that it is at
	done    chan struct{}      // closed at its end
}

// Add queues f, which has failed with err. It is tried after wait, and then at intervals that grow
// up to limit.
func (q *Queue) Add(f func(context.Context) error, err error, wait, limit time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = err
	// In front: what has just come is more likely to succeed than what has been failing.
	q.queue = slices.Insert(q.queue, 0, f)
	if q.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		q.stop, q.done = cancel, make(chan struct{})
		go q.run(ctx, q.done, wait, limit)
	}
}

func (q *Queue) run(ctx context.Context, done chan struct{}, wait, limit time.Duration) {
	defer close(done)
	for first := wait; ; {
		timer := time.NewTimer(wait + rand.N(wait/4+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		round, cut := context.WithCancel(ctx)
		q.mu.Lock()
		q.cut = cut
		q.mu.Unlock()
		succeeded, _, _ := q.round(round)
		cut()
		if succeeded > 0 {
			wait = first
		} else {
			wait = min(2*wait, limit)
		}
		q.mu.Lock()
		if len(q.queue) == 0 && ctx.Err() == nil { // else Halt has taken stop
			q.stop()
			q.stop = nil
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
	}
}

// maxFailures end a round: if there is no room for so many series, there is seldom room for the
// next one, and nobody gains from hurrying.
const maxFailures = 8

// round tries everything in the queue once, up to some failures. What has failed goes to the
// queue's end.
func (q *Queue) round(ctx context.Context) (succeeded, left int, last error) {
	if Lock(ctx, q.trying.TryLock) != nil { // perhaps this goroutine is at it, in a logger
		q.mu.Lock()
		defer q.mu.Unlock()
		return 0, q.left(), q.last
	}
	defer q.trying.Unlock()
	tried, failures := 0, 0
	for n := q.Len(); n > 0 && failures < maxFailures && ctx.Err() == nil; n-- {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.mu.Unlock()
			break
		}
		f := q.queue[0]
		q.queue = q.queue[1:]
		q.running = true
		q.mu.Unlock()
		tried++
		err := f(ctx)
		q.mu.Lock()
		q.running = false
		if err != nil {
			failures++
			q.queue, q.last = append(q.queue, f), err
		}
		q.mu.Unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return tried - failures, len(q.queue), q.last
}

// Drain tries everything until the queue is empty, ctx ends or wait is over. The error says why
// something is left.
func (q *Queue) Drain(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		_, left, last := q.round(ctx)
		if left == 0 {
			return nil
		}
		timer := time.NewTimer(time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(last, ctx.Err())
		case <-timer.C:
		}
	}
}

// Interrupt cancels the context of the function that is being tried. It stays in the queue, unless
// it succeeds.
func (q *Queue) Interrupt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut != nil {
		q.cut()
	}
}

// Halt ends the goroutine, waits for its end until ctx ends, and forgets what is queued.
func (q *Queue) Halt(ctx context.Context) {
	q.mu.Lock()
	stop, done := q.stop, q.done
	q.stop, q.queue = nil, nil
	if stop != nil {
		stop()
	}
	q.mu.Unlock()
	if stop != nil {
		select {
		case <-done:
		case <-ctx.Done(): // what runs has been told to end
		}
	}
}

// Len returns how many functions have not succeeded yet.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left()
}

// left is Len while mu is held.
func (q *Queue) left() int {
	if q.running {
		return len(q.queue) + 1
	}
	return len(q.queue)
}

// Lock tries a lock until it is taken or ctx ends: the locks of package sync know no contexts.
func Lock(ctx context.Context, try func() bool) error {
	for wait := 10 * time.Microsecond; !try(); wait = min(2*wait, time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}
