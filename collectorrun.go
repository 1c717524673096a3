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

// Concurrent scrapes share the work of a collector. A scrape takes part only in a run that begins
// after it has come, so that it shows what was so when it came: those that come during a run share
// the next one.

// collector is a registered Collector, or the function of a metric.
type collector struct {
	reg     *Registry // gives prefix and constant labels; nil: the registry that runs it
	what    string    // it is, for the log
	own     bool      // it is the registry's own
	process bool      // it is also run periodically, and its families are stored in the backend
	collect func(ctx context.Context, s *Sink) error
	store   func(s *Sink) []error // of an instance's; storeMu is held
	lost    func()                // store's opposite, after a failure; storeMu is held

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

// ask joins a run, waits until it is done or ctx ends, and returns its sink, which other scrapes
// share.
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
		return nil, fmt.Errorf("it is still at work on an earlier scrape: %w", ctx.Err())
	}
	if mine.waiting == 0 {
		mine.cancel() // nobody is left to see what it makes
	}
	return nil, fmt.Errorf("it has not answered in time: %w", ctx.Err())
}

func (c *collector) join(ctx context.Context, r *Registry) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.current.waiting == 0 {
		return nil, errors.New("it is still at work on an earlier scrape, which has given it up")
	}
	mine := c.next
	if mine == nil {
		mine = &run{sink: &Sink{reg: cmp.Or(c.reg, r), process: c.process, own: c.own}, done: make(chan struct{})}
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

// begin begins a run. c.mu is held.
func (c *collector) begin(ctx context.Context, mine *run) {
	c.current = mine
	var limited context.Context
	limited, mine.cancel = context.WithDeadline(ctx, mine.deadline)
	go func() {
		err := errors.New("it has ended its goroutine")
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
