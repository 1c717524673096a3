package gotheus

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Whoever comes during a run takes part in the next one, which is one for all.
func TestSharedRun(t *testing.T) {
	t.Parallel()
	runs, entered, release := 0, make(chan struct{}, 2), make(chan struct{})
	c := &collector{collect: func(context.Context, *Sink) error {
		runs++
		entered <- struct{}{}
		<-release
		return nil
	}}
	r := new(Registry)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	join := func() *run {
		mine, err := c.join(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return mine
	}
	first := join()
	<-entered
	next := join()
	for range 20 {
		if mine := join(); mine != next || mine == first {
			t.Error("a run of its own, or the one in progress")
		}
	}
	close(release)
	<-first.done
	<-next.done
	if runs != 2 || next.waiting != 21 {
		t.Errorf("%d runs, the last for %d scrapes", runs, next.waiting)
	}
}

// A run that hangs and was given up costs later scrapes no time, and is over when it returns.
func TestGivenUpRun(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 2), make(chan struct{})
	c := &collector{collect: func(context.Context, *Sink) error {
		entered <- struct{}{}
		<-release
		return nil
	}}
	r := new(Registry)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	given := make(chan error)
	go func() {
		_, err := c.ask(ctx, r)
		given <- err
	}()
	<-entered
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := c.ask(ctx, r); err == nil { // at once, not in an hour
		t.Error("a run was begun beside the one that hangs")
	}
	c.mu.Lock()
	hung := c.current
	c.mu.Unlock()
	close(release)
	<-hung.done
	if _, err := c.ask(ctx, r); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
