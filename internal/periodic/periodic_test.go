package periodic

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // time advances only while all goroutines are blocked
		var timer Timer
		var calls atomic.Int32
		var again atomic.Bool
		again.Store(true)
		f := func(context.Context) bool { calls.Add(1); return again.Load() }
		want := func(n int32, when string) {
			t.Helper()
			synctest.Wait()
			if calls := calls.Load(); calls != n {
				t.Errorf("%s: %d calls, want %d", when, calls, n)
			}
		}
		timer.Start(10*time.Second, time.Second, f)
		want(0, "at first")
		time.Sleep(20 * time.Second)
		want(2, "after two intervals")
		timer.Start(time.Minute, time.Second, f)
		time.Sleep(10 * time.Second)
		want(3, "started again with a longer interval")
		timer.Start(time.Second, time.Second, f)
		time.Sleep(3 * time.Second)
		want(6, "started again with a shorter interval")
		timer.StartNow(time.Second, time.Second, f)
		want(7, "at once")
		again.Store(false)
		time.Sleep(time.Minute)
		want(8, "after a call that asked not to be called again")
		again.Store(true)
		timer.StartNow(time.Second, time.Second, f)
		want(9, "started once more")
		timer.Stop(t.Context())
		time.Sleep(time.Minute)
		want(9, "stopped")
	})
}

// Stop cancels a call that hangs, and does not wait for it beyond its own context.
func TestStopOfHangingCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var timer Timer
		hanging := make(chan struct{})
		var cancelled atomic.Bool
		timer.StartNow(time.Second, time.Hour, func(ctx context.Context) bool {
			<-ctx.Done()
			cancelled.Store(true)
			<-hanging
			return true
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		timer.Stop(ctx)
		synctest.Wait()
		if ctx.Err() == nil || !cancelled.Load() {
			t.Errorf("stopped: context %v, call cancelled: %v", ctx.Err(), cancelled.Load())
		}
		close(hanging)
		timer.Stop(t.Context())
	})
}

// StartNow during a call that wants no other is not lost, and the next call has its whole time.
func TestStartDuringCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var timer Timer
		release := make(chan struct{})
		calls := make(chan time.Duration, 2)
		f := func(ctx context.Context) bool {
			deadline, _ := ctx.Deadline()
			calls <- time.Until(deadline)
			<-release
			return false
		}
		timer.StartNow(time.Hour, time.Minute, f)
		synctest.Wait()
		<-calls
		timer.StartNow(time.Hour, time.Minute, f)
		time.Sleep(50 * time.Second)
		close(release)
		synctest.Wait()
		select {
		case left := <-calls:
			if left != time.Minute {
				t.Errorf("%v are left for the call", left)
			}
		default:
			t.Error("no further call")
		}
		timer.Stop(t.Context())
	})
}
