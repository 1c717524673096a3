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
// the next one. What one scrape allows is its own affair: a run has failed if it says so, or if it
// takes longer than all who wait for it allow, and longer than Patience. The zero value is ready to
// use.
type Runs[T any] struct {
	// Failed is called for each run that has failed, before scrapes learn of it. It may be nil.
	Failed func()

	mu      sync.Mutex
	begun   uint64 // number of runs that have begun
	current *run[T]
	next    *run[T] // for scrapes that arrived during current
}

type run[T any] struct {
	result   T
	err      error
	done     chan struct{} // closed when result and err can be read
	before   *run[T]       // in progress when scrapes joined this one; nil once this is done
	deadline time.Time     // the latest of the waiting scrapes; Patience at least
	waiting  int
	hangs    bool      // it has not returned, long after its deadline
	failed   sync.Once // guards the call of Failed
	overdue  *time.Timer
	cancel   func() // nil: the run has not begun
}

// grace is how long after its deadline a function may return without being taken for one that
// hangs.
const grace = Patience / 10

// Patience is how long a run may take however little time scrapes allow, before it counts as one
// that hangs. Until then, a scrape may have to wait for a run that was begun for another one.
const Patience = 5 * time.Second

// ErrImpatient is wrapped by the error of a scrape that did not wait for long enough. It says
// nothing about the function.
var ErrImpatient = errors.New("the scrape did not allow enough time")

var errHangs = errors.New("it is still working for an earlier scrape, and may hang")

// Join waits for a run of f, which is the same function in all calls, and returns its result, which
// is shared. It gives up when ctx ends; the run's own context ends at its deadline, and when all
// who wait for it have given up. A scrape that gives up returns the result of the run that was in
// progress when it came, if there is one. If f panics, or ends its goroutine, Join returns an
// error.
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
	joined.waiting--
	begun, before, over := joined.cancel != nil, joined.before, isClosed(joined.done)
	late := begun && !time.Now().Before(joined.deadline)
	if begun && joined.waiting == 0 && !late {
		joined.cancel() // no scrape waits for it any more
	}
	r.mu.Unlock()
	switch {
	case over:
		return joined.result, joined.err
	case late:
		joined.failed.Do(r.fail)
	}
	switch {
	case begun && before != nil && before.err == nil:
		return before.result, nil
	case late:
		return result, fmt.Errorf("it did not return in time: %w", ctx.Err())
	case begun:
		return result, fmt.Errorf("%w: it did not return in time: %w", ErrImpatient, ctx.Err())
	}
	return result, fmt.Errorf("%w: it is still working for an earlier scrape: %w", ErrImpatient, ctx.Err())
}

func (r *Runs[T]) join(ctx context.Context, f func(context.Context) (T, error)) (*run[T], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.hangs {
		return nil, errHangs
	}
	joined := r.next
	if joined == nil {
		joined = &run[T]{done: make(chan struct{}), before: r.current}
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
	if least := time.Now().Add(Patience); started.deadline.Before(least) {
		started.deadline = least
	}
	var limited context.Context
	limited, started.cancel = context.WithDeadline(ctx, started.deadline)
	// Also if the context ends earlier, since the function may ignore that. The timer does not
	// refer to the run: the runtime may keep a stopped timer until it would have fired.
	r.begun++
	number := r.begun
	started.overdue = time.AfterFunc(time.Until(started.deadline)+grace, func() { r.giveUp(number) })
	go func() {
		err := errors.New("it ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = report.PanicError(p)
			}
			r.end(ctx, limited, started, f, err)
		}()
		started.result, err = f(limited)
	}()
}

// end ends a run, and starts the next one.
func (r *Runs[T]) end(ctx, limited context.Context, ended *run[T], f func(context.Context) (T, error), err error) {
	if err != nil && limited.Err() != context.Canceled {
		ended.failed.Do(r.fail)
	}
	ended.cancel()
	ended.overdue.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	ended.err, ended.before = err, nil
	close(ended.done)
	next := r.next
	r.current, r.next = nil, nil
	if next != nil && next.waiting > 0 {
		r.begin(ctx, next, f)
	}
}

// giveUp records that the run with this number hangs, unless it has just returned. Those who wait
// for the next one learn it at once.
func (r *Runs[T]) giveUp(number uint64) {
	o := r.inProgress(number)
	if o == nil {
		return
	}
	o.failed.Do(r.fail)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != o {
		return
	}
	o.hangs = true
	if next := r.next; next != nil {
		next.err = errHangs
		close(next.done)
		r.next = nil
	}
}

func (r *Runs[T]) inProgress(number uint64) *run[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun != number {
		return nil
	}
	return r.current
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (r *Runs[T]) fail() {
	if r.Failed != nil {
		r.Failed()
	}
}
