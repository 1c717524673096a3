package tests_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/internal/backend/heap"
	"github.com/gotheus/gotheus/internal/backend/syncer"
	"github.com/gotheus/gotheus/store"
)

// deaf is a backend whose Sync ignores its context.
type deaf struct {
	backend.Backend
	release chan struct{}
}

func (d deaf) Sync(context.Context) error {
	<-d.release
	return nil
}

// deafRemote is deaf as a remote backend.
type deafRemote struct{ deaf }

func (deafRemote) Remote() {}

// A backend does not answer before a scrape's deadline. If it is a store, there is no page, since
// it could be older than another process's page. Otherwise the page shows the state that was read
// last, with an error. In both cases the scrape ends in time.
func TestLateSync(t *testing.T) {
	t.Parallel()
	const deadline = time.Second
	for name, c := range map[string]struct {
		open  func(hang *atomic.Bool, release chan struct{}) backend.Backend
		stale bool
	}{
		"a store that hangs": {func(hang *atomic.Bool, _ chan struct{}) backend.Backend {
			return gotheus.Must(syncer.New(&backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault {
				if hang.Load() {
					return backendtest.Hang
				}
				return backendtest.None
			}}, &store.Options{Logger: quiet}))
		}, true},
		"a store that does not heed the deadline": {func(_ *atomic.Bool, release chan struct{}) backend.Backend {
			return deafRemote{deaf{heap.New(), release}}
		}, true},
		"a backend that does not heed the deadline": {func(_ *atomic.Bool, release chan struct{}) backend.Backend {
			return deaf{heap.New(), release}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hang atomic.Bool
				release := make(chan struct{})
				r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
				r.NewCounter("c_total", "C.", nil).Inc()
				r.BindBackend(t.Context(), c.open(&hang, release))
				hang.Store(true)
				for range 2 {
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					begun := time.Now()
					var page strings.Builder
					err := r.Write(ctx, &page, nil)
					cancel()
					if took := time.Since(begun); took >= deadline || took < deadline/2 {
						t.Errorf("took %v of %v", took, deadline)
					}
					if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, gotheus.ErrStale) != c.stale {
						t.Errorf("error %v", err)
					}
					if shown := strings.Contains(page.String(), "c_total 1\n"); shown == c.stale || c.stale && page.Len() > 0 {
						t.Errorf("page: %s", &page)
					}
				}
				hang.Store(false)
				close(release)
				if err := r.Write(t.Context(), new(strings.Builder), nil); err != nil {
					t.Errorf("when it answers again: %v", err)
				}
				if err := r.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A scrape that does not wait for a store costs others nothing, and is no fault of the store.
func TestImpatientSync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, log := newRegistry(t, nil)
		r.NewCounter("c_total", "C.", nil).Inc()
		slow := &backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault {
			time.Sleep(50 * time.Millisecond)
			return backendtest.None
		}}
		if err := r.BindStore(t.Context(), &store.Config{Shards: []store.Store{slow}}); err != nil {
			t.Fatal(err)
		}
		scrape := func(allowed time.Duration) (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), allowed)
			defer cancel()
			var p strings.Builder
			err := r.Write(ctx, &p, nil)
			return p.String(), err
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			for range 100 {
				if _, err := scrape(time.Millisecond); !errors.Is(err, gotheus.ErrStale) {
					t.Errorf("an impatient scrape: %v", err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		for range 10 {
			if p, err := scrape(10 * time.Second); err != nil || !strings.Contains(p, "c_total 1\n") {
				t.Errorf("a patient scrape: %v\n%s", err, p)
			}
		}
		<-over
		if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "did not allow the backend enough time") {
			t.Errorf("log: %s", s)
		}
	})
}

// While the store hangs, Close takes no longer than its context or ten seconds, and a moment for
// series without room.
func TestCloseInTime(t *testing.T) {
	t.Parallel()
	for _, given := range []time.Duration{time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			r := gotheus.NewRegistry(&gotheus.RegistryOptions{Logger: quiet})
			c := r.NewCounter("c_total", "C.", nil)
			hanging := &backendtest.Faulty{Store: new(backendtest.Memory), Next: func() backendtest.Fault { return backendtest.Hang }}
			r.BindStore(t.Context(), &store.Config{Shards: []store.Store{hanging}})
			c.Inc()
			ctx, cancel := context.WithTimeout(t.Context(), given)
			defer cancel()
			begun := time.Now()
			err := r.Close(ctx)
			if took := time.Since(begun); err == nil || took > min(given, 11*time.Second) {
				t.Errorf("Close took %v with a context of %v: %v", took, given, err)
			}
			c.Inc() // counts in the heap
			if v := c.Value(); v != 1 {
				t.Errorf("after Close the counter is %v", v)
			}
		})
	}
}
