package gotheus

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// retrier tries functions again until they succeed, in a goroutine that exists only while there are
// any. The zero value is ready.
type retrier struct {
	trying  sync.Mutex // held while functions run: what is being tried is not in the queue
	mu      sync.Mutex
	queue   []func(context.Context) error
	running bool               // one is not in the queue, since it runs
	last    error              // of the last failure
	stop    context.CancelFunc // of the goroutine; nil: none is running
	cut     context.CancelFunc // of the round that it is at
	done    chan struct{}      // closed at its end
}

// add queues f, which has failed. It is tried after wait, and then after ever longer times up to most.
func (q *retrier) add(f func(context.Context) error, err error, wait, most time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = err
	// In front: what has just come is more likely to succeed than what has been failing.
	q.queue = slices.Insert(q.queue, 0, f)
	if q.stop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		q.stop, q.done = cancel, make(chan struct{})
		go q.run(ctx, q.done, wait, most)
	}
}

func (q *retrier) run(ctx context.Context, done chan struct{}, wait, most time.Duration) {
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
			wait = min(2*wait, most)
		}
		q.mu.Lock()
		if len(q.queue) == 0 && ctx.Err() == nil { // else halt has taken stop
			q.stop()
			q.stop = nil
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
	}
}

// someFailures end a round: if there is no room for so many series, there is seldom room for the next, and
// nobody gains from hurrying.
const someFailures = 8

// round tries everything in the queue once, up to some failures. What has failed goes to the queue's end.
func (q *retrier) round(ctx context.Context) (succeeded, left int, last error) {
	if poll(ctx, q.trying.TryLock) != nil { // perhaps this goroutine is at it, in a logger
		q.mu.Lock()
		defer q.mu.Unlock()
		return 0, q.left(), q.last
	}
	defer q.trying.Unlock()
	tried, failures := 0, 0
	for n := q.len(); n > 0 && failures < someFailures && ctx.Err() == nil; n-- {
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

// drain tries everything until the queue is empty, ctx ends or wait is over; the error says why something
// is left.
func (q *retrier) drain(ctx context.Context, wait time.Duration) error {
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

// interrupt tells what is being tried to end. It stays in the queue, unless it succeeds.
func (q *retrier) interrupt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cut != nil {
		q.cut()
	}
}

// halt ends the goroutine, waits for its end until ctx ends, and forgets what is queued.
func (q *retrier) halt(ctx context.Context) {
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

// len returns how much has not succeeded yet.
func (q *retrier) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left()
}

// left is len while mu is held.
func (q *retrier) left() int {
	if q.running {
		return len(q.queue) + 1
	}
	return len(q.queue)
}
