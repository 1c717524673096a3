package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What is being tried has not succeeded yet; and whoever has no time learns all the same why
// something is left.
func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time moves only while all sleep
		var q Queue
		defer q.Halt(t.Context())
		full := errors.New("full")
		release := make(chan error)
		q.Add(func(context.Context) error { return <-release }, full, time.Second, time.Minute)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Drain(ended, time.Second); !errors.Is(err, full) || !errors.Is(err, context.Canceled) {
			t.Errorf("drained without time: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait() // it is being tried
		if n := q.Len(); n != 1 {
			t.Errorf("%d left while it is being tried", n)
		}
		other := errors.New("still full")
		release <- other
		synctest.Wait()
		if n := q.Len(); n != 1 {
			t.Errorf("%d left after a failure", n)
		}
		if err := q.Drain(ended, time.Second); !errors.Is(err, other) {
			t.Errorf("drained without time: %v", err)
		}
		time.Sleep(time.Minute)
		release <- nil
		synctest.Wait()
		if n := q.Len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// What is tried may itself want to know what is left, as a logger does that flushes: it learns that
// it is not done.
func TestQueueWithinItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		defer q.Halt(t.Context())
		full := errors.New("full")
		var within error
		q.Add(func(ctx context.Context) error {
			within = q.Drain(ctx, time.Second)
			return nil
		}, full, time.Second, time.Minute)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !errors.Is(within, full) || !errors.Is(within, context.DeadlineExceeded) {
			t.Errorf("drained while it is being tried: %v", within)
		}
		if n := q.Len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// What is interrupted goes on being tried; what is halted is not.
func TestQueueInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		tries := 0
		q.Add(func(ctx context.Context) error {
			tries++
			<-ctx.Done()
			return ctx.Err()
		}, errors.New("not yet"), time.Second, time.Second)
		q.Interrupt() // nothing is being tried
		for want := range 3 {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if tries != want+1 || q.Len() != 1 {
				t.Fatalf("%d tries, %d left", tries, q.Len())
			}
			q.Interrupt()
			synctest.Wait()
		}
		q.Halt(t.Context())
		if n := q.Len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}
