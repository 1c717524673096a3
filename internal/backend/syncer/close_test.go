package syncer_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// A short job that closes leaves its counts behind and nothing else, whichever call fails and
// however.
func TestCloseLeavesAll(t *testing.T) {
	t.Parallel()
	faults := []backendtest.Fault{backendtest.LoseRequest, backendtest.LoseReply, backendtest.Duplicate, backendtest.Late, backendtest.Hang}
	for _, fault := range faults {
		for at, more := 0, true; more; at++ {
			synctest.Test(t, func(t *testing.T) {
				mem := new(backendtest.Memory)
				calls := 0
				net := &backendtest.Faulty{Store: mem, Next: func() backendtest.Fault {
					if calls++; calls == at+1 {
						return fault
					}
					return backendtest.None
				}}
				s := newSyncer(t, net, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
				synctest.Wait() // the first contact is the first call
				w, err := s.Cells(counter, `x="job"`)
				if err != nil {
					t.Fatal(err)
				}
				w[backend.CounterInt].Add(7)
				if err := s.Close(t.Context()); err != nil {
					t.Errorf("fault %d in call %d: %v", fault, at, err)
				}
				check := func(when string) {
					t.Helper()
					if n, instances := values(t, mem); n[`x="job"`] != 7 || instances != 1 {
						t.Errorf("fault %d in call %d, %s: %v, and %d instances", fault, at, when, n, instances)
					}
				}
				check("closed")
				net.Arrive(t.Context())
				check("when what was late has arrived")
				more = calls > at
			})
			if at > 50 {
				t.Fatal("Close takes more than 50 calls")
			}
		}
	}
}

// Close ends with its context, even while a Flush without a deadline waits for a store that hangs.
func TestCloseDuringFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := &backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault { return backendtest.Hang }}
		s := newSyncer(t, net, &store.Options{Interval: time.Hour, Alive: 2 * time.Hour, Logger: slog.New(slog.DiscardHandler)})
		flushed := make(chan error)
		go func() { flushed <- s.Flush(context.Background()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := s.Close(ctx); err == nil {
			t.Error("Close says that all is in a store that hangs")
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-flushed; !errors.Is(err, backend.ErrClosed) {
			t.Errorf("Flush of a store that hangs, ended by Close: %v", err)
		}
		for range 1000 { // either of two errors may come first
			if err := s.Flush(t.Context()); !errors.Is(err, backend.ErrClosed) {
				t.Fatalf("Flush after Close: %v", err)
			}
		}
	})
}
