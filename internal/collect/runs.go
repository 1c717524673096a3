package collect

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Runs shares the runs of a function among concurrent scrapes. A scrape joins only a run that
// begins after it, so that it does not show an older state: scrapes that arrive during a run share
// the next one. The zero value is ready to use.
type Runs[T any] struct {
	mu      sync.Mutex
	current *run[T]
	next    *run[T] // for scrapes that arrived during current
}

type run[T any] struct {
	result   T
	err      error
	done     chan struct{} // closed when result and err can be read
	deadline time.Time     // the latest of the waiting scrapes
	waiting  int
	cancel   func() // nil: the run has not begun
}

// Join waits for a run of f, which is the same function in all calls, and returns its result, which
// is shared. It gives up when ctx ends; the run's own context ends with the latest deadline of
// those that wait for it, and when all of them have given up. If f panics, or ends its goroutine,
// Join returns an error.
func (r *Runs[T]) Join(ctx context.Context, f func(context.Context) (T, error)) (result T, err error) {
	mine, err := r.join(ctx, f)
	if err != nil {
		return result, err
	}
	select {
	case <-mine.done:
		return mine.result, mine.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	mine.waiting--
	if mine.cancel == nil {
		return result, fmt.Errorf("it is still working for an earlier scrape: %w", ctx.Err())
	}
	if mine.waiting == 0 {
		mine.cancel() // no scrape waits for it any more
	}
	return result, fmt.Errorf("it did not return in time: %w", ctx.Err())
}

func (r *Runs[T]) join(ctx context.Context, f func(context.Context) (T, error)) (*run[T], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.waiting == 0 {
		return nil, errors.New("it is still working for an earlier scrape, which has given up on it")
	}
	mine := r.next
	if mine == nil {
		mine = &run[T]{done: make(chan struct{})}
	}
	mine.waiting++
	if d, ok := ctx.Deadline(); ok && d.After(mine.deadline) {
		mine.deadline = d
	}
	if r.current != nil {
		r.next = mine
	} else {
		r.begin(context.WithoutCancel(ctx), mine, f)
	}
	return mine, nil
}

// begin starts a run. r.mu is held.
func (r *Runs[T]) begin(ctx context.Context, mine *run[T], f func(context.Context) (T, error)) {
	r.current = mine
	var limited context.Context
	limited, mine.cancel = context.WithDeadline(ctx, mine.deadline)
	go func() {
		err := errors.New("it ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			mine.cancel()
			r.mu.Lock()
			defer r.mu.Unlock()
			mine.err = err
			close(mine.done)
			next := r.next
			r.current, r.next = nil, nil
			if next != nil && next.waiting > 0 {
				r.begin(ctx, next, f)
			}
		}()
		mine.result, err = f(limited)
	}()
}
