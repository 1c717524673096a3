package gotheus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Concurrent scrapes share the work of a collector. A scrape takes part only in a run that begins after
// it has come, so that it shows what was so when it came: those that come during a run share the next one.

// collector is whatever is asked: a Collector, or a metric's function.
type collector struct {
	what     string // it is, for the log
	own      bool   // it is the registry's own
	instance bool   // it is asked from time to time, and what it gives is stored in the backend
	collect  func(ctx context.Context, s *Sink) error
	store    func(s *Sink) []error // of an instance's; storeMu is held
	lost     func()                // store's opposite, after a failure; storeMu is held

	mu      sync.Mutex
	current *run
	next    *run // for those that came during current

	storeMu sync.Mutex
	removed bool          // nothing is stored any more
	stores  atomic.Uint64 // how often something was stored
}

// run is one call of Collect.
type run struct {
	sink     *Sink
	err      error
	done     chan struct{} // closed when sink and err can be read
	deadline time.Time     // the latest of those that wait
	waiting  int
	cancel   func() // nil: it has not begun
}

// ask returns what a run makes, and gives up on it when ctx ends. The sink is shared.
func (c *collector) ask(ctx context.Context, r *Registry) (*Sink, error) {
	joined, err := c.join(ctx, r)
	if err != nil {
		return nil, err
	}
	select {
	case <-joined.done:
		return joined.sink, joined.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	joined.waiting--
	if joined.cancel == nil {
		return nil, fmt.Errorf("it is still at work on an earlier scrape: %w", ctx.Err())
	}
	if joined.waiting == 0 {
		joined.cancel() // nobody is left to see what it makes
	}
	return nil, fmt.Errorf("it has not answered in time: %w", ctx.Err())
}

func (c *collector) join(ctx context.Context, r *Registry) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.waiting == 0 {
		return nil, errors.New("it is still at work on an earlier scrape, which has given it up")
	}
	joined := c.next
	if joined == nil {
		joined = &run{sink: &Sink{reg: r, perProcess: c.instance, library: c.own}, done: make(chan struct{})}
	}
	joined.waiting++
	if d, ok := ctx.Deadline(); ok && d.After(joined.deadline) {
		joined.deadline = d
	}
	if c.current != nil {
		c.next = joined
	} else {
		c.begin(context.WithoutCancel(ctx), joined)
	}
	return joined, nil
}

// begin begins a run. c.mu is held.
func (c *collector) begin(ctx context.Context, joined *run) {
	c.current = joined
	var limited context.Context
	limited, joined.cancel = context.WithDeadline(ctx, joined.deadline)
	go func() {
		err := errors.New("it has ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
			joined.cancel()
			c.mu.Lock()
			defer c.mu.Unlock()
			joined.err = err
			close(joined.done)
			next := c.next
			c.current, c.next = nil, nil
			if next != nil && next.waiting > 0 {
				c.begin(ctx, next)
			}
		}()
		err = c.run(limited, joined.sink)
	}()
}

// run asks once. What comes late is still stored.
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
