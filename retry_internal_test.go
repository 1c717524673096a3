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
