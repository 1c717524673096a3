package collect

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// Scrapes that arrive during a run share the next one, which has the latest of their deadlines.
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
	sooner, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	join := func(ctx context.Context) *run[int] {
		mine, err := c.join(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		return mine
	}
	first := join(ctx)
	<-entered
	next := join(ctx)
	for range 20 {
		if mine := join(sooner); mine != next || mine == first {
			t.Error("a run of its own, or the one in progress")
		}
	}
	close(release)
	<-first.done
	<-next.done
	if runs != 2 || next.result != 2 || next.waiting != 21 {
		t.Errorf("%d runs, the last for %d scrapes", runs, next.waiting)
	}
	if want, _ := ctx.Deadline(); !next.deadline.Equal(want) {
		t.Errorf("the deadline of the run is %v, want %v", next.deadline, want)
	}
}

// A run's context ends when nobody waits for it any more, and a run that nobody waits for does not
// begin.
func TestRunForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs, ended, release := 0, make(chan error), make(chan struct{})
		var c Runs[int]
		f := func(ctx context.Context) (int, error) {
			runs++
			<-ctx.Done()
			ended <- ctx.Err()
			<-release
			return 0, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		go c.Join(ctx, f)
		synctest.Wait()
		over, done := context.WithCancel(t.Context())
		done()
		if _, err := c.Join(over, f); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("the context has ended by %v", err)
		}
		close(release)
		synctest.Wait()
		if runs != 1 {
			t.Errorf("%d runs, want 1", runs)
		}
	})
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

// A timer that was stopped can stay among those that run, with all that it refers to. The result of
// a run must not: it may be a long page's.
func TestStoppedTimersKeepNothing(t *testing.T) { // not parallel: it makes very many timers
	timers := func(d time.Duration, n int) {
		for range n {
			timer := time.AfterFunc(d, func() {})
			t.Cleanup(func() { timer.Stop() })
		}
	}
	timers(Patience/2, 1000) // few stopped ones among many
	type page [100]byte
	var c Runs[*page]
	var results []weak.Pointer[page]
	for range 20 {
		result, err := c.Join(t.Context(), func(context.Context) (*page, error) {
			timers(time.Hour, 10) // neither the first one nor the last
			return new(page), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, weak.Make(result))
	}
	runtime.GC()
	for i, r := range results[:len(results)-1] {
		if r.Value() != nil {
			t.Errorf("the result of run %d is kept", i)
		}
	}
}
