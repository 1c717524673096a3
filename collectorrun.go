package gotheus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Concurrent scrapes share the runs of a collector. A scrape takes part only in a run that begins
// after the scrape has arrived, so that it does not show an older state: scrapes that arrive during
// a run share the next one.

// collector runs a Collector or a metric's function.
type collector struct {
	reg        *Registry // whose prefix and constant labels apply; nil: of the one that runs it
	what       string    // describes it in log lines
	own        bool      // it is part of the registry itself
	perProcess bool      // it also runs at intervals, and its values are stored in the backend
	collect    func(ctx context.Context, s *Sink) error
	store      func(s *Sink) []error // stores the values of a run; storeMu is held
	lost       func()                // undoes store after a failure; storeMu is held

	mu      sync.Mutex
	current *run
	next    *run // for scrapes that arrived during current

	storeMu sync.Mutex
	removed bool          // nothing may be stored any more
	stores  atomic.Uint64 // number of calls of store
}

// run is one call of Collect.
type run struct {
	sink     *Sink
	err      error
	done     chan struct{} // closed when sink and err can be read
	deadline time.Time     // the latest of the waiting scrapes
	waiting  int
	cancel   func() // nil: the run has not begun
}

// ask joins a run and returns its result, which is shared. It gives up when ctx ends.
func (c *collector) ask(ctx context.Context, r *Registry) (*Sink, error) {
	mine, err := c.join(ctx, r)
	if err != nil {
		return nil, err
	}
	select {
	case <-mine.done:
		return mine.sink, mine.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	mine.waiting--
	if mine.cancel == nil {
		return nil, fmt.Errorf("it is still working for an earlier scrape: %w", ctx.Err())
	}
	if mine.waiting == 0 {
		mine.cancel() // no scrape waits for it any more
	}
	return nil, fmt.Errorf("it did not return in time: %w", ctx.Err())
}

func (c *collector) join(ctx context.Context, r *Registry) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.waiting == 0 {
		return nil, errors.New("it is still working for an earlier scrape, which has given up on it")
	}
	mine := c.next
	if mine == nil {
		mine = &run{sink: &Sink{reg: cmp.Or(c.reg, r), perProcess: c.perProcess, library: c.own}, done: make(chan struct{})}
	}
	mine.waiting++
	if d, ok := ctx.Deadline(); ok && d.After(mine.deadline) {
		mine.deadline = d
	}
	if c.current != nil {
		c.next = mine
	} else {
		c.begin(context.WithoutCancel(ctx), mine)
	}
	return mine, nil
}

// begin starts a run. c.mu is held.
func (c *collector) begin(ctx context.Context, mine *run) {
	c.current = mine
	var limited context.Context
	limited, mine.cancel = context.WithDeadline(ctx, mine.deadline)
	go func() {
		err := errors.New("it ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			mine.cancel()
			c.mu.Lock()
			defer c.mu.Unlock()
			mine.err = err
			close(mine.done)
			next := c.next
			c.current, c.next = nil, nil
			if next != nil && next.waiting > 0 {
				c.begin(ctx, next)
			}
		}()
		err = c.run(limited, mine.sink)
	}()
}

// run calls the collector once. A result that comes too late for the scrape is still stored.
func (c *collector) run(ctx context.Context, s *Sink) error {
	if err := c.collect(ctx, s); err != nil {
		return err
	}
	s.check()
	if c.store != nil {
		c.storeMu.Lock()
		defer c.storeMu.Unlock()
		if !c.removed {
			c.stores.Add(1)
			s.errs = append(s.errs, c.store(s)...)
		}
	}
	return nil
}
