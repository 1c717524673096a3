package collect

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Scrapes that arrive during a run share the next one.
func TestSharedRun(t *testing.T) {
	t.Parallel()
	runs, entered, release := 0, make(chan struct{}, 2), make(chan struct{})
	var c Runs[int]
	f := func(context.Context) (int, error) {
		runs++
		entered <- struct{}{}
		<-release
		return runs, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	join := func() *run[int] {
		mine, err := c.join(ctx, f)
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
	if runs != 2 || next.result != 2 || next.waiting != 21 {
		t.Errorf("%d runs, the last for %d scrapes", runs, next.waiting)
	}
}

// A hanging run that was abandoned does not delay later scrapes, and ends when it returns.
func TestGivenUpRun(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 2), make(chan struct{})
	var c Runs[int]
	f := func(context.Context) (int, error) {
		entered <- struct{}{}
		<-release
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	given := make(chan error)
	go func() {
		_, err := c.Join(ctx, f)
		given <- err
	}()
	<-entered
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := c.Join(ctx, f); err == nil { // at once, not in an hour
		t.Error("a run was begun beside the one that hangs")
	}
	c.mu.Lock()
	hung := c.current
	c.mu.Unlock()
	close(release)
	<-hung.done
	if _, err := c.Join(ctx, f); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A function that panics or ends its goroutine fails the scrapes that wait for it, and no other.
func TestRunThatFails(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	fails := map[string]func(){"panic: boom": func() { panic("boom") }, "it ended its goroutine": runtime.Goexit}
	var c Runs[int]
	for want, fail := range fails {
		_, err := c.Join(ctx, func(context.Context) (int, error) { fail(); return 0, nil })
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	if n, err := c.Join(ctx, func(context.Context) (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("afterwards: %d, %v", n, err)
	}
}
