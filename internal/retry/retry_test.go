package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A function that runs counts as left, and Drain with an expired context still returns the last
// failure.
func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time advances only while all goroutines are blocked
		var q Queue
		defer q.Halt(t.Context())
		full := errors.New("full")
		release := make(chan error)
		q.Add(func(context.Context) error { return <-release }, full, time.Second, time.Minute)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.Drain(ended, time.Second); !errors.Is(err, full) || !errors.Is(err, context.Canceled) {
			t.Errorf("Drain with an expired context: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait() // the function is running
		if n := q.Len(); n != 1 {
			t.Errorf("%d left while the function is running, want 1", n)
		}
		other := errors.New("still full")
		release <- other
		synctest.Wait()
		if n := q.Len(); n != 1 {
			t.Errorf("%d left after a failure", n)
		}
		if err := q.Drain(ended, time.Second); !errors.Is(err, other) {
			t.Errorf("Drain with an expired context: %v", err)
		}
		time.Sleep(time.Minute)
		release <- nil
		synctest.Wait()
		if n := q.Len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// A queued function may call Drain, as a logger that flushes does. It learns that it is not done
// itself.
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
			t.Errorf("Drain within a queued function: %v", within)
		}
		if n := q.Len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// An interrupted function is tried again; after Halt, none is.
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
		q.Interrupt() // no function is running
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
