// Package retry retries functions until they succeed, and lock attempts until a context ends.
package retry

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Queue retries functions until they succeed, in a goroutine that exists only while there are any.
// The zero value is ready to use.
type Queue struct {
	trying   sync.Mutex // held during a round; a function that runs is not in the queue
	mu       sync.Mutex
	queue    []func(context.Context) error
	running  bool               // a function is running; it counts as queued
	last     error              // of the last failure
	stop     context.CancelFunc // of the goroutine; nil: there is none
	endRound context.CancelFunc // of the goroutine's current round
	done     chan struct{}      // closed when the goroutine ends
}

// Add queues f, which has failed with err. If the queue's goroutine is not running, Add starts it:
// the first round is after wait, and the intervals between failing rounds double up to limit.
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
		round, endRound := context.WithCancel(ctx)
		q.mu.Lock()
		q.endRound = endRound
		q.mu.Unlock()
		succeeded, _, _ := q.round(round)
		endRound()
		if succeeded > 0 {
			wait = first
		} else {
			wait = min(2*wait, limit)
		}
		q.mu.Lock()
		if len(q.queue) == 0 && ctx.Err() == nil { // otherwise Halt has reset stop
			q.stop()
			q.stop = nil
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
	}
}

// maxFailures is the number of failures that end a round: if there was no room for so many series,
// there is seldom room for the next one.
const maxFailures = 8

// round tries each queued function once, but ends after maxFailures. Functions that fail go to the
// end of the queue.
func (q *Queue) round(ctx context.Context) (succeeded, left int, last error) {
	if Lock(ctx, q.trying.TryLock) != nil { // e.g. a queued function's logger has called Drain
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

// Drain tries the queued functions until the queue is empty, ctx ends or wait has passed. In the
// latter cases, the error joins that of the last failure and that of the context.
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

// Interrupt cancels the context of the function that the goroutine is running. Unless it succeeds,
// the function stays in the queue.
func (q *Queue) Interrupt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.endRound != nil {
		q.endRound()
	}
}

// Halt empties the queue and stops the goroutine. It waits for the goroutine until ctx ends.
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
		case <-ctx.Done(): // a function still runs; its context is cancelled
		}
	}
}

// Len returns the number of functions that have not succeeded yet.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left()
}

// left returns the number of functions that have not succeeded yet. The caller holds mu.
func (q *Queue) left() int {
	if q.running {
		return len(q.queue) + 1
	}
	return len(q.queue)
}

// Lock calls try until it succeeds or ctx ends: the locks of package sync do not support contexts.
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
