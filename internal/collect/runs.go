package collect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gotheus/gotheus/internal/report"
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
	joined, err := r.join(ctx, f)
	if err != nil {
		return result, err
	}
	select {
	case <-joined.done:
		return joined.result, joined.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	joined.waiting--
	if joined.cancel == nil {
		return result, fmt.Errorf("it is still working for an earlier scrape: %w", ctx.Err())
	}
	if joined.waiting == 0 {
		joined.cancel() // no scrape waits for it any more
	}
	return result, fmt.Errorf("it did not return in time: %w", ctx.Err())
}

func (r *Runs[T]) join(ctx context.Context, f func(context.Context) (T, error)) (*run[T], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.waiting == 0 {
		return nil, errors.New("it is still working for an earlier scrape, which has given up on it")
	}
	joined := r.next
	if joined == nil {
		joined = &run[T]{done: make(chan struct{})}
	}
	joined.waiting++
	if d, ok := ctx.Deadline(); ok && d.After(joined.deadline) {
		joined.deadline = d
	}
	if r.current != nil {
		r.next = joined
	} else {
		r.begin(context.WithoutCancel(ctx), joined, f)
	}
	return joined, nil
}

// begin starts a run. r.mu is held.
func (r *Runs[T]) begin(ctx context.Context, started *run[T], f func(context.Context) (T, error)) {
	r.current = started
	var limited context.Context
	limited, started.cancel = context.WithDeadline(ctx, started.deadline)
	go func() {
		err := errors.New("it ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = report.PanicError(p)
			}
			started.cancel()
			r.mu.Lock()
			defer r.mu.Unlock()
			started.err = err
			close(started.done)
			next := r.next
			r.current, r.next = nil, nil
			if next != nil && next.waiting > 0 {
				r.begin(ctx, next, f)
			}
		}()
		started.result, err = f(limited)
	}()
}
