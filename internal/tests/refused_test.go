package tests_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gotheus/gotheus"
	"github.com/gotheus/gotheus/internal/backend/backendtest"
	"github.com/gotheus/gotheus/store"
)

// refusingStore answers each call with what answer returns, unless that is nil.
type refusingStore struct {
	backendtest.Memory
	answer func(ctx context.Context) error
}

func (s *refusingStore) Heads(ctx context.Context, names []string) (map[string]store.Head, error) {
	if err := s.answer(ctx); err != nil {
		return nil, err
	}
	return s.Memory.Heads(ctx, names)
}

func (s *refusingStore) Commit(ctx context.Context, c *store.Commit) error {
	if err := s.answer(ctx); err != nil {
		return err
	}
	return s.Memory.Commit(ctx, c)
}

func (s *refusingStore) Close() error { return nil }

var (
	errRefuses = fmt.Errorf("refusing://h: the password is wrong: correct it: %w", store.ErrRefused)
	errAway    = errors.New("refusing://h: connection refused")
	answers    = map[string]func(ctx context.Context) error{
		"refuses": func(context.Context) error { return errRefuses },
		"away":    func(context.Context) error { return errAway },
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"answers": func(context.Context) error { return nil },
	}
)

func init() {
	store.Register("test-answering", func(_ context.Context, u *url.URL, _ store.DriverOptions) (*store.Config, error) {
		return answering(u.Opaque), nil
	})
}

// answering returns two shards, of which the second one answers in this way.
func answering(how string) *store.Config {
	return &store.Config{Shards: []store.Store{&refusingStore{answer: answers["answers"]}, &refusingStore{answer: answers[how]}}}
}

// Bind and BindStore return what a store answers that refuses, and nothing while it is merely away
// or does not answer in time. In any case the registry is bound.
func TestRefused(t *testing.T) {
	t.Parallel()
	for how := range answers {
		for what, bind := range map[string]func(ctx context.Context, r *gotheus.Registry) error{
			"Bind":      func(ctx context.Context, r *gotheus.Registry) error { return r.Bind(ctx, "test-answering:"+how) },
			"BindStore": func(ctx context.Context, r *gotheus.Registry) error { return r.BindStore(ctx, answering(how)) },
		} {
			t.Run(how+" "+what, func(t *testing.T) {
				t.Parallel()
				r, _ := newRegistry(t, nil)
				ctx := t.Context()
				// The other one waits for as long as it may.
				if how == "hangs" && what == "Bind" {
					short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
					defer cancel()
					ctx = short
				}
				begun := time.Now()
				err := bind(ctx, r)
				if refuses := how == "refuses"; errors.Is(err, store.ErrRefused) != refuses || (err != nil) != refuses {
					t.Errorf("the error is %v", err)
				}
				if took := time.Since(begun); took > 30*time.Second {
					t.Errorf("it took %v", took)
				}
				r.NewCounter("c_total", "C.", nil).Inc()
				if err := bind(t.Context(), r); what == "Bind" && err != nil || what == "BindStore" && !errors.Is(err, gotheus.ErrBound) {
					t.Errorf("it is not bound: %v", err)
				}
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				r.Close(ended)
			})
		}
	}
}

// Binding to GOTHEUS_BACKEND logs it, since nobody gets the error.
func TestRefusedEnvironment(t *testing.T) { // not parallel: it sets the environment and the default
	old := gotheus.Default()
	defer gotheus.SetDefault(old)
	t.Setenv(gotheus.EnvBackend, "test-answering:refuses")
	r, log := newRegistry(t, nil)
	gotheus.SetDefault(r)
	r.NewCounter("c_total", "C.", nil).Inc()
	backendtest.Eventually(t, "the refusal is logged", func() bool {
		return strings.Contains(log.String(), "level=ERROR") && strings.Contains(log.String(), "the password is wrong: correct it")
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r.Close(ended)
}
