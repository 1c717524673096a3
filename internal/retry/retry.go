// Package retry retries functions until they succeed, and takes locks with a context.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Queue retries functions until they succeed, in a goroutine that exists only while the queue is
// not empty. The zero value is ready.
type Queue struct {
	trying  sync.Mutex // held during a round
	mu      sync.Mutex
	queue   []func(context.Context) error
	running bool               // a function is running, and not in the queue
	last    error              // the latest error
	stop    context.CancelFunc // of the goroutine; nil: none is running
	cut     context.CancelFunc // of the round in progress
	done    chan struct{}      // closed when the goroutine ends
}

// Add queues f, which has failed with err. It is retried after wait, and then at intervals that
// grow up to limit.
func (q *Queue) Add(f func(context.Context) error, err error, wait, limit time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = err
	// In front: a new function is more likely to succeed than those that keep failing.
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

// maxFailures is the number of failures that end a round: if there was no room for that many
// series, there is hardly any for the next.
const maxFailures = 8

// round tries each function in the queue once, until maxFailures. Those that fail go to the end of
// the queue.
func (q *Queue) round(ctx context.Context) (succeeded, left int, last error) {
	if Lock(ctx, q.trying.TryLock) != nil { // perhaps held by this goroutine, in a logger
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

// Drain retries until the queue is empty, ctx ends or wait is over. The error says why something is
// left.
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

// Interrupt cancels the context of the function that is being tried. The function stays in the
// queue unless it succeeds.
func (q *Queue) Interrupt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut != nil {
		q.cut()
	}
}

// Halt ends the goroutine and empties the queue. It waits for the goroutine until ctx ends.
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
		case <-ctx.Done(): // the function's context is canceled
		}
	}
}

// Len returns the number of functions that have not succeeded yet.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left()
}

// left is Len with mu held.
func (q *Queue) left() int {
	if q.running {
		return len(q.queue) + 1
	}
	return len(q.queue)
}

// Lock calls try, the TryLock of a lock, until it succeeds or ctx ends: the locks of package sync
// take no context.
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
