package gotheus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// What is being tried has not succeeded yet; and whoever has no time learns all the same why something is left.
func TestRetrier(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time moves only while all sleep
		var q retrier
		defer q.halt(t.Context())
		full := errors.New("full")
		release := make(chan error)
		q.add(func(context.Context) error { return <-release }, full, time.Second, time.Minute)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.drain(ended, time.Second); !errors.Is(err, full) || !errors.Is(err, context.Canceled) {
			t.Errorf("drained without time: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait() // it is being tried
		if n := q.len(); n != 1 {
			t.Errorf("%d left while it is being tried", n)
		}
		other := errors.New("still full")
		release <- other
		synctest.Wait()
		if n := q.len(); n != 1 {
			t.Errorf("%d left after a failure", n)
		}
		if err := q.drain(ended, time.Second); !errors.Is(err, other) {
			t.Errorf("drained without time: %v", err)
		}
		time.Sleep(time.Minute)
		release <- nil
		synctest.Wait()
		if n := q.len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// What is tried may itself want to know what is left, as a logger does that flushes: it learns that it is not done.
func TestRetrierWithinItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q retrier
		defer q.halt(t.Context())
		full := errors.New("full")
		var within error
		q.add(func(ctx context.Context) error {
			within = q.drain(ctx, time.Second)
			return nil
		}, full, time.Second, time.Minute)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !errors.Is(within, full) || !errors.Is(within, context.DeadlineExceeded) {
			t.Errorf("drained while it is being tried: %v", within)
		}
		if n := q.len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}

// What is interrupted goes on being tried; what is halted is not.
func TestRetrierInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q retrier
		tries := 0
		q.add(func(ctx context.Context) error {
			tries++
			<-ctx.Done()
			return ctx.Err()
		}, errors.New("not yet"), time.Second, time.Second)
		q.interrupt() // nothing is being tried
		for want := range 3 {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if tries != want+1 || q.len() != 1 {
				t.Fatalf("%d tries, %d left", tries, q.len())
			}
			q.interrupt()
			synctest.Wait()
		}
		q.halt(t.Context())
		if n := q.len(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
}
