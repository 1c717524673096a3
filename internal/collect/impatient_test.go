package collect

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wait sleeps in a bubble of synctest for d, or until ctx ends if the function honours it.
func wait(ctx context.Context, d time.Duration, honours bool) error {
	if !honours {
		time.Sleep(d)
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Scrapes that allow next to no time, one after the other, do not keep a patient one from a result,
// and nothing fails because of them.
func TestImpatientBesidePatient(t *testing.T) {
	t.Parallel()
	for _, honours := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := Runs[int]{Failed: func() { t.Error("a run has failed") }}
			f := func(ctx context.Context) (int, error) { return 7, wait(ctx, 300*time.Millisecond, honours) }
			over := make(chan struct{})
			go func() {
				defer close(over)
				for range 200 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					if _, err := c.Join(ctx, f); !errors.Is(err, ErrImpatient) {
						t.Errorf("an impatient scrape: %v", err)
					}
					cancel()
					time.Sleep(50 * time.Millisecond)
				}
			}()
			for range 10 {
				time.Sleep(time.Second / 10)
				ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
				if n, err := c.Join(ctx, f); n != 7 || err != nil {
					t.Errorf("a patient scrape, a function that honours its context: %v: %d, %v", honours, n, err)
				}
				cancel()
			}
			<-over
			time.Sleep(time.Second) // the last run goes on for nobody
		})
	}
}

// A run that hangs costs the time of those who wait until it is clear that it hangs, and later ones
// nothing. That is said once, whoever began it.
func TestHungRun(t *testing.T) {
	t.Parallel()
	for _, first := range []time.Duration{time.Millisecond, 8 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			failed, release := 0, make(chan struct{})
			c := Runs[int]{Failed: func() { failed++ }}
			f := func(context.Context) (int, error) {
				<-release
				return 1, nil
			}
			scrape := func(d time.Duration) (took time.Duration, err error) {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				start := time.Now()
				_, err = c.Join(ctx, f)
				return time.Since(start), err
			}
			_, err := scrape(first)
			if impatient := first < Patience; errors.Is(err, ErrImpatient) != impatient {
				t.Errorf("the first scrape, for %v: %v", first, err)
			}
			took, err := scrape(8 * time.Second)
			if err == nil || errors.Is(err, ErrImpatient) || took > Patience+grace {
				t.Errorf("after one for %v: %v, after %v", first, err, took)
			}
			if took, err := scrape(8 * time.Second); err == nil || errors.Is(err, ErrImpatient) || took > 0 {
				t.Errorf("the scrape after it was clear: %v, after %v", err, took)
			}
			if failed != 1 {
				t.Errorf("it failed %d times", failed)
			}
			close(release)
			synctest.Wait()
			if _, err := scrape(time.Second); err != nil {
				t.Errorf("when it has returned: %v", err)
			}
		})
	}
}

// A scrape whose time does not suffice for a run of its own takes the result of the one that was in
// progress when it came.
func TestResultOfTheRunBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Runs[int]
		n := 0
		f := func(context.Context) (int, error) {
			n++
			mine := n
			time.Sleep(5 * time.Second)
			return mine, nil
		}
		results := make(chan int, 2)
		for range 2 {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
				defer cancel()
				n, err := c.Join(ctx, f)
				if err != nil {
					t.Error(err)
				}
				results <- n
			}()
			time.Sleep(time.Second)
		}
		if a, b := <-results, <-results; a != 1 || b != 1 {
			t.Errorf("the results of runs %d and %d", a, b)
		}
		synctest.Wait()
		if n != 2 || c.next != nil {
			t.Errorf("%d runs", n)
		}
		time.Sleep(time.Minute)
	})
}

// A run fails once if it returns an error itself, and not if it does so because nobody waits.
func TestFailedRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed, bad := 0, errors.New("bad")
		c := Runs[int]{Failed: func() { failed++ }}
		for what, f := range map[string]func(context.Context) (int, error){
			"an error": func(context.Context) (int, error) { return 0, bad },
			"a panic":  func(context.Context) (int, error) { panic("boom") },
			"a deadline": func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			},
		} {
			failed = 0
			within, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			if _, err := c.Join(within, f); err == nil || errors.Is(err, ErrImpatient) || failed != 1 {
				t.Errorf("%s: %v, failed %d times", what, err, failed)
			}
			cancel()
			synctest.Wait()
		}
		failed = 0
		gone, leave := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			leave()
		}()
		_, err := c.Join(gone, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, bad
		})
		synctest.Wait()
		if err == nil || failed != 0 {
			t.Errorf("a run for nobody: %v, failed %d times", err, failed)
		}
	})
}

// A function that returns as soon as its context ends does not hang: the next scrapes get their
// run.
func TestFunctionThatIsTooSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed, runs := 0, 0
		c := Runs[int]{Failed: func() { failed++ }}
		f := func(ctx context.Context) (int, error) {
			if runs++; runs == 1 {
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return runs, nil
		}
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
				defer cancel()
				if n, err := c.Join(ctx, f); (err == nil) != (i > 0) || i > 0 && n != 2 {
					t.Errorf("scrape %d: %d, %v", i, n, err)
				}
			})
			time.Sleep(time.Second)
		}
		all.Wait()
		if failed != 1 {
			t.Errorf("it failed %d times", failed)
		}
	})
}

// However long scrapes overlap, a run keeps no more than the one before it.
func TestRunsKeepNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c Runs[int]
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				_, err := c.Join(t.Context(), func(context.Context) (int, error) {
					if b := c.current.before; b != nil && b.before != nil {
						t.Error("a run keeps two others")
					}
					time.Sleep(2 * time.Second)
					return 0, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			time.Sleep(2*time.Second - 1)
		}
		all.Wait()
	})
}
